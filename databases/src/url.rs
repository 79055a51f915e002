//! What connection strings of all engines have in common, as URLs.

/// What mends a password that is not percent-encoded.
const NOT_ENCODED: &str = "the password is not percent-encoded: write / as %2F, ? as %3F, # as %23 and @ as %40, the last one in \
     options too";

/// Refuses a string of which a part of the password could be taken for a host: hosts are told in errors. Some readers
/// take all up to the first '@' for the user, some all up to the first '/'; here both must come to the same.
pub(crate) fn is_encoded(dsn: &str) -> Result<(), &'static str> {
    let (_, rest) = dsn.split_once("://").unwrap_or_default();
    let (authority, after) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let hosts = authority.split_once('@').map_or(authority, |(_, hosts)| hosts);
    let of_hosts = |c: char| c.is_ascii_alphanumeric() || "._:%[]/-,".contains(c);
    if dsn.contains('#') || hosts.contains('@') || after.contains('@') {
        return Err(NOT_ENCODED);
    }
    if !hosts.chars().all(of_hosts) {
        return Err("the host holds a character that no host has, or the password is not percent-encoded");
    }
    Ok(())
}

/// The text that a percent-encoded one stands for; `None` where it stands for none.
pub(crate) fn decode(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
            let text = std::str::from_utf8(&digits).ok().filter(|_| is_hex)?;
            bytes.push(u8::from_str_radix(text, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// A text as it may stand anywhere in a URL.
pub(crate) fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// The user that the agent runs as.
pub(crate) fn operating_system_user() -> Option<String> {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_an_encoding_is_none() {
        for text in ["%", "%4", "%zz", "%+4", "%ff"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_again(text in "\\PC{0,20}") {
            let encoded = encode(&text);
            prop_assert!(encoded.is_ascii());
            prop_assert_eq!(decode(&encoded), Some(text));
        }
    }
}

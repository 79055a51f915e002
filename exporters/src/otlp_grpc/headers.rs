//! Metadata of every request: a map, or a list of names and values. Values are secrets.

use std::collections::BTreeMap;

use blameio_config::{Decode, Diagnostics, Node, NodeKind, Path, Secret, settings};
use tonic::metadata::{AsciiMetadataKey, BinaryMetadataKey, BinaryMetadataValue, MetadataMap};

/// Headers, with names that gRPC can carry and values that it can carry.
#[derive(Clone, Debug, Default)]
pub struct Headers(BTreeMap<String, Secret>);

settings! {
    /// An element of the list.
    struct Header {
        /// Name.
        name: String,
        /// Value.
        value: Secret,
    }
}

impl Headers {
    /// What is sent.
    pub fn metadata(&self) -> MetadataMap {
        let mut metadata = MetadataMap::with_capacity(self.0.len());
        for (name, value) in &self.0 {
            insert(&mut metadata, name, value);
        }
        metadata
    }
}

/// Whether gRPC can carry it. Names are in lower case on the wire.
fn insert(metadata: &mut MetadataMap, name: &str, value: &Secret) -> bool {
    let name = name.to_lowercase();
    if let Ok(name) = name.parse::<BinaryMetadataKey>() {
        let value = BinaryMetadataValue::from_bytes(value.expose().as_bytes());
        metadata.insert_bin(name, value);
        return true;
    }
    match (name.parse::<AsciiMetadataKey>(), value.expose().parse()) {
        (Ok(name), Ok(value)) => {
            metadata.insert(name, value);
            true
        }
        _ => false,
    }
}

impl Decode for Headers {
    const EXPECTED: &'static str = "map";

    fn decode(node: &Node, path: &Path, out: &mut Diagnostics) -> Option<Self> {
        let pairs: Vec<(String, Secret)> = if let NodeKind::List(_) = node.kind {
            let list = Vec::<Header>::decode(node, path, out)?;
            list.into_iter().map(|header| (header.name, header.value)).collect()
        } else {
            BTreeMap::decode(node, path, out)?.into_iter().collect()
        };
        let errors = out.error_count();
        let mut headers = BTreeMap::new();
        for (name, value) in pairs {
            if !insert(&mut MetadataMap::new(), &name, &value) {
                let message = format!("'{name}' is not a header that gRPC can carry, or its value is not");
                let help = "names are letters, digits, '-', '_' and '.'; values are visible ASCII";
                out.error_with_help(&node.position, path, message, help);
            }
            if headers.insert(name.to_lowercase(), value).is_some() {
                out.error(&node.position, path, format!("'{name}' is there twice"));
            }
        }
        (out.error_count() == errors).then_some(Self(headers))
    }
}

#[cfg(test)]
mod tests {
    use blameio_config::parse;

    use super::*;

    fn read(text: &str) -> Result<Headers, String> {
        let mut out = Diagnostics::new();
        let headers = Headers::decode(&parse(text).unwrap(), &Path::root().key("headers"), &mut out);
        headers.ok_or_else(|| out.to_string())
    }

    #[test]
    fn a_map_and_a_list_say_the_same() {
        for text in [
            "{X-Scope-OrgID: orders, k-bin: ab}",
            "[{name: X-Scope-OrgID, value: orders}, {name: k-bin, value: ab}]",
        ] {
            let metadata = read(text).unwrap().metadata();
            assert_eq!(metadata.get("x-scope-orgid").unwrap(), "orders");
            assert_eq!(metadata.get_bin("k-bin").unwrap().to_bytes().unwrap().as_ref(), b"ab");
        }
    }

    #[test]
    fn what_cannot_be_carried_is_refused_and_no_value_is_shown() {
        for (text, expected) in [
            ("{'a b': hidden}", "not a header that gRPC can carry"),
            ("{a: \"hid\\nden\"}", "not a header that gRPC can carry"),
            ("{A: hidden, a: hidden}", "'a' is there twice"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected) && !error.contains("hid"), "{error}");
        }
        assert!(!format!("{:?}", read("{a: hidden}").unwrap()).contains("hidden"));
    }
}

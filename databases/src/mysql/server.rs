//! Which server it is, and since when it runs, asked by SQL.

use super::link::Link;
use crate::error::DatabaseError;

/// The first half of a server's UUID, which MySQL makes once for each data directory.
pub(super) fn half(uuid: &str) -> Option<u64> {
    let digits: String = uuid.trim().chars().filter(|c| *c != '-').take(16).collect();
    if digits.len() == 16 { u64::from_str_radix(&digits, 16).ok().filter(|id| *id != 0) } else { None }
}

/// What makes the server unlike others; MariaDB has nothing of the kind.
pub(super) async fn uuid(link: &Link) -> Result<Option<u64>, DatabaseError> {
    const PURPOSE: &str = "its UUID";
    if link.known().await?.is_mariadb {
        // That it answers says as much as what it answers: nobody else tells whether the server is there.
        return link.row(PURPOSE, "SELECT 1").await.map(|_| None);
    }
    let row = link.row(PURPOSE, "SELECT @@server_uuid").await?;
    Ok(row.at(0).and_then(|uuid| half(&uuid)))
}

/// When the server was started, as seconds since the epoch, within two of them.
pub(super) async fn started(link: &Link) -> Result<i64, DatabaseError> {
    let uptime = link.row("its start time", "SHOW GLOBAL STATUS LIKE 'Uptime'").await?;
    let now = link.row("its clock", "SELECT UNIX_TIMESTAMP()").await?;
    let number = |text: Option<String>| text.and_then(|text| text.parse::<i64>().ok());
    number(now.at(0)).zip(number(uptime.at(1))).map(|(now, uptime)| now - uptime).ok_or_else(|| {
        DatabaseError::Query {
            server: link.address().0,
            purpose: "its start time",
            code: "no number".to_owned(),
            remedy: "this version of the server is not supported; please report it".to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_uuid_is_a_number() {
        assert_eq!(half("3e11fa47-71ca-11e1-9e33-c80aa9429562\n"), Some(0x3e11_fa47_71ca_11e1));
        for text in
            ["", "3e11fa47", "00000000-0000-0000-9e33-c80aa9429562", "zz11fa47-71ca-11e1-9e33-c80aa9429562"]
        {
            assert_eq!(half(text), None, "{text}");
        }
    }
}

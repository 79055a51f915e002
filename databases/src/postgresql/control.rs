//! Reads the system identifier from `global/pg_control`, so that a server has an identity without SQL.
//!
//! Nothing else of the file is read: its layout changes with every major version, its first field never has.

/// Size of the part that PostgreSQL writes at once; a shorter file is not one.
const SIZE: usize = 512;

/// The system identifier, which stands first, in the byte order of the host that runs the server.
pub(crate) fn system_identifier(file: &[u8]) -> Option<u64> {
    if file.len() < SIZE {
        return None;
    }
    let bytes = file.first_chunk::<8>()?;
    Some(u64::from_ne_bytes(*bytes)).filter(|identifier| *identifier != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_short_or_empty_file_has_no_identifier() {
        assert_eq!(system_identifier(&[]), None);
        assert_eq!(system_identifier(&[1; 100]), None);
        assert_eq!(system_identifier(&[0; 8192]), None);
    }

    proptest! {
        #[test]
        fn the_identifier_stands_first(identifier in 1u64..) {
            let mut file = vec![7; 8192];
            file[..8].copy_from_slice(&identifier.to_ne_bytes());
            prop_assert_eq!(system_identifier(&file), Some(identifier));
        }
    }
}

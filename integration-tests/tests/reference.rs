//! The reference pages are made from the code, so they cannot go out of date unseen.

use std::{fs, path::Path};

use blameio_integration_tests::reference::pages;

/// Set to 1, it makes the test write the pages instead of comparing them.
const UPDATE: &str = "BLAMEIO_UPDATE_DOCS";

#[test]
fn the_committed_reference_pages_say_what_the_code_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let update = std::env::var(UPDATE).is_ok_and(|value| value == "1");
    let mut stale = Vec::new();
    for page in pages() {
        let path = root.join(page.path);
        if update {
            fs::write(&path, &page.text).unwrap();
        } else if fs::read_to_string(&path).unwrap_or_default() != page.text {
            stale.push(page.path);
        }
    }
    assert!(
        stale.is_empty(),
        "{} differ from the code; write them anew with\n    \
         {UPDATE}=1 cargo test -p blameio-integration-tests --test reference\nand commit them",
        stale.join(" and ")
    );
}

//! That every statement in the code has been recorded, be it one that no act comes to ask.

use std::path::{Path, PathBuf};

use super::{
    directory,
    tape::{Tape, plain},
};

/// How the agent's statements begin.
const BEGINNINGS: [&str; 6] = ["SELECT ", "SHOW ", "SET ", "WITH ", "INSERT ", "CREATE "];

/// String literals of a source file before its tests, without what joins their lines.
fn literals(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n").replace("\\\"", "").replace("'\"'", "");
    // One that ends in a space goes on with what differs.
    let whole =
        |literal: &str| plain(&literal.replace("\\\n", "")) + if literal.ends_with(' ') { " {" } else { "" };
    code.split('"').skip(1).step_by(2).map(whole).collect()
}

fn statements(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let is_source = |file: &PathBuf| {
        file.extension().is_some_and(|kind| kind == "rs") && !file.ends_with("recorded_tests.rs")
    };
    let sources = files.filter(is_source);
    let all = sources.flat_map(|file| literals(&std::fs::read_to_string(file).unwrap()));
    all.filter(|text| BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))).collect()
}

#[test]
fn every_statement_of_the_code_is_recorded() {
    let files = std::fs::read_dir(directory()).unwrap().map(|file| file.unwrap().path());
    let is_ours = |file: &Path| {
        let name = file.file_name().unwrap().to_str().unwrap();
        name.starts_with("mysql-") || name.starts_with("mariadb-")
    };
    let tapes = files.filter(|file| is_ours(file)).map(|file| Tape::read(&file));
    let known: Vec<_> = tapes.flat_map(|tape| tape.statements.into_keys()).collect();
    let asked = statements(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/mysql"));
    assert!(asked.len() >= 20, "{asked:?}");
    for sql in asked {
        // What is filled in differs.
        let (beginning, is_whole) =
            sql.split_once('{').map_or((&*sql, true), |(beginning, _)| (beginning, false));
        let is_known =
            |known: &String| if is_whole { known == beginning } else { known.starts_with(beginning) };
        assert!(known.iter().any(is_known), "not recorded: {sql}; run the recorder, see CONTRIBUTING.md");
    }
}

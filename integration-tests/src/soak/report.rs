//! The result as text, and its place in `docs/soak.md`.

use std::{fmt::Write as _, fs, path::Path};

use super::{Options, judge::Finding};
use crate::bench::{
    Outcome,
    record::{Circumstances, root},
};

/// Results follow it, the newest first.
const MARKER: &str = "<!-- results -->\n";

/// A dated section.
pub fn section(findings: &[Finding], options: &Options, seed: u64, circumstances: &Circumstances) -> String {
    let failed = findings.iter().filter(|finding| finding.kept == Some(false)).count();
    let result = if failed == 0 { "passed".to_owned() } else { format!("{failed} promises broken") };
    let day = circumstances.date.split('T').next().unwrap_or_default();
    let minutes = options.duration.as_secs() / 60;
    let mut text =
        format!("## {day}: {minutes} minutes, {result}\n\n| promise | seen | |\n| --- | --- | --- |\n");
    for finding in findings {
        let kept = match finding.kept {
            Some(true) => "kept",
            Some(false) => "**broken**",
            None => "not judged: too short",
        };
        let seen = finding.seen.replace('|', "/");
        // Writing to a String cannot fail.
        let _unused = writeln!(text, "| {} | {seen} | {kept} |", finding.promise);
    }
    let disk = if options.slow_disk { ", slow disk at times" } else { "" };
    let _unused = writeln!(text, "\nSeed {seed}{disk}. {}.", circumstances.line());
    text
}

/// Puts it into `docs/soak.md`, and the samples beside it.
pub fn record(section: &str, csv: &Path, circumstances: &Circumstances) -> Outcome<()> {
    let docs = root().join("docs");
    let day = circumstances.date.split('T').next().unwrap_or_default();
    let name = format!("{day}-soak.csv");
    fs::create_dir_all(docs.join("benchmarks"))?;
    fs::copy(csv, docs.join("benchmarks").join(&name))?;
    let page = docs.join("soak.md");
    let text = fs::read_to_string(&page).map_err(|error| format!("{}: {error}", page.display()))?;
    let section = format!("{section}\nSamples: [{name}](benchmarks/{name}).\n");
    fs::write(&page, added(&text, &section)?)?;
    Ok(())
}

fn added(page: &str, section: &str) -> Outcome<String> {
    let (before, after) =
        page.split_once(MARKER).ok_or_else(|| format!("docs/soak.md has no line {}", MARKER.trim_end()))?;
    Ok(format!("{before}{MARKER}\n{section}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_result_comes_first_and_the_others_stay() {
        let page = "# Soak\n<!-- results -->\n\nold\n";
        assert_eq!(added(page, "new\n").expect("a place"), "# Soak\n<!-- results -->\n\nnew\n\nold\n");
        assert!(added("# Soak\n", "new").is_err());
    }
}

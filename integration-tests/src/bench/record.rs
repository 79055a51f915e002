//! Keeps results: the raw rows as CSV below `docs/benchmarks/`, and a table between markers in `docs/benchmarks.md`.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Measured, Outcome, Row, Target};

/// On what it was measured. Results of two machines cannot be compared.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// Time of the start, UTC.
    pub date: String,
    /// Of the project; `+` when there were changes that were not committed.
    pub commit: String,
    machine: String,
    versions: String,
}

impl Circumstances {
    /// Of this moment. `postgres` is the server program.
    pub fn now(postgres: &Path) -> Outcome<Self> {
        let git = |arguments: &[&str]| said(Command::new("git").args(arguments).current_dir(root()));
        let clean = git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
        let commit = git(&["rev-parse", "--short", "HEAD"])? + if clean { "" } else { "+" };
        let field = |file: &str, name: &str| -> Outcome<String> {
            let text = fs::read_to_string(file)?;
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
            Ok(line
                .map(|(_, value)| value.trim().to_owned())
                .ok_or_else(|| format!("{file} has no {name}"))?)
        };
        let memory: u64 = field("/proc/meminfo", "MemTotal")?.trim_end_matches(" kB").parse()?;
        let machine = format!(
            "{}, {} cores, {:.1} GiB RAM, Linux {}",
            field("/proc/cpuinfo", "model name")?,
            std::thread::available_parallelism()?,
            memory as f64 / 1024.0 / 1024.0,
            fs::read_to_string("/proc/sys/kernel/osrelease")?.trim()
        );
        let server = said(Command::new(postgres).arg("--version"))?;
        let versions = format!(
            "blameio {commit}, {}, {}",
            said(Command::new("rustc").arg("--version"))?,
            server.replace("postgres (PostgreSQL)", "PostgreSQL")
        );
        Ok(Self { date: said(Command::new("date").args(["-u", "+%FT%TZ"]))?, commit, machine, versions })
    }

    /// In one line.
    pub fn line(&self) -> String {
        format!("{}; {}; {}", self.date, self.machine, self.versions)
    }
}

fn said(command: &mut Command) -> Outcome<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The rows as a Markdown table.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from("| what | measured | target | |\n| --- | ---: | ---: | --- |\n");
    for row in rows {
        let target = match row.target {
            Target::None => String::new(),
            Target::AtMost(limit) => format!("≤ {}", number(limit)),
            Target::AtLeast(limit) => format!("≥ {}", number(limit)),
        };
        let met = row.met().map_or("", |met| if met { "met" } else { "**missed**" });
        // Writing to a String cannot fail.
        let _unused =
            writeln!(text, "| {} | {} {} | {target} | {met} |", row.what, number(row.value), row.unit);
    }
    text
}

/// Four digits that matter.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        1000.0.. => 0,
        100.0.. => 1,
        10.0.. => 2,
        1.0.. => 3,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Writes a case's raw rows and puts its table into `docs/benchmarks.md`.
pub fn record(case: &str, measured: &Measured, circumstances: &Circumstances) -> Outcome<()> {
    let docs = root().join("docs");
    let day = circumstances.date.split('T').next().unwrap_or_default();
    let name = format!("{day}-{case}.csv");
    fs::create_dir_all(docs.join("benchmarks"))?;
    fs::write(docs.join("benchmarks").join(&name), csv(case, measured, circumstances))?;
    let page = docs.join("benchmarks.md");
    let text = fs::read_to_string(&page).map_err(|error| format!("{}: {error}", page.display()))?;
    let line = circumstances.line();
    let block = format!("{}\n{line}. Rows: [{name}](benchmarks/{name}).\n", table(&measured.rows));
    fs::write(&page, between(&text, case, &block)?)?;
    Ok(())
}

fn csv(case: &str, measured: &Measured, circumstances: &Circumstances) -> String {
    let mut text = format!("# {}\ndate,commit,case,kind,what,value,unit\n", circumstances.line());
    let (date, commit) = (&circumstances.date, &circumstances.commit);
    for (kind, rows) in [("row", &measured.rows), ("raw", &measured.raw)] {
        for row in rows {
            let what = row.what.replace('"', "'");
            let _unused =
                writeln!(text, "{date},{commit},{case},{kind},\"{what}\",{},{}", row.value, row.unit);
        }
    }
    text
}

/// Replaces what is between `<!-- NAME -->` and `<!-- /NAME -->`.
pub fn between(page: &str, name: &str, block: &str) -> Outcome<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let found = page.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some(format!("{before}{begin}\n{}\n\n{end}{after}", block.trim_end()))
    });
    Ok(found.ok_or_else(|| format!("the page has no place for {name}: {} … {end}", begin.trim_end()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_place_of_the_case_is_replaced_and_it_can_be_replaced_again() {
        let page = "a\n<!-- one -->\nold\n<!-- /one -->\nb\n<!-- two -->\n<!-- /two -->\n";
        let once = between(page, "one", "new\n").expect("a place");
        assert_eq!(once, "a\n<!-- one -->\n\nnew\n\n<!-- /one -->\nb\n<!-- two -->\n<!-- /two -->\n");
        assert_eq!(between(&once, "one", "new\n").expect("a place"), once);
        assert!(between(page, "three", "x").is_err());
    }

    #[test]
    fn a_missed_target_is_said() {
        let rows = [
            Row::of("slow", 2.5, "ms").target(Target::AtMost(2.0)),
            Row::of("fast", 123_456.7, "1/s").target(Target::AtLeast(50_000.0)),
        ];
        let text = table(&rows);
        assert!(text.contains("| slow | 2.5 ms | ≤ 2 | **missed** |"), "{text}");
        assert!(text.contains("| fast | 123457 1/s | ≥ 50000 | met |"), "{text}");
    }
}

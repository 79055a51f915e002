//! Whose page is it: the map of a tablespace against what each page says of itself, on files of real servers.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, tells by printing, and its helpers are part of it"
)]

#[path = "innodb/compare.rs"]
mod compare;
#[path = "innodb/server.rs"]
mod server;
#[path = "innodb/tables.rs"]
mod tables;

use std::{
    fs::File,
    path::Path,
    time::{Duration, Instant},
};

use blameio_databases::mysql::innodb::{InnodbError, Owner, PageMap, Roots};

use compare::Tally;
use server::{Program, Server};

const DEADLINE: Duration = Duration::from_mins(4);
/// Where a file that grows is large enough: hundreds of extents, and many refreshes on the way.
const GROWN: u64 = 50_000_000;

/// Every page of every file of a server that was stopped.
fn closed(test: &str, program: &Program, settings: &[&str], tables: impl Fn(&Server)) {
    let mut server = Server::start(program, settings);
    tables(&server);
    let roots = server.roots();
    server.stop();
    let mut all = Tally::default();
    for file in server.files() {
        let name = server.name(&file);
        let given = roots.get(&server::space_of(&file)).map(Vec::as_slice).unwrap_or_default();
        for roots in [Roots::Given(given), Roots::InFile] {
            if matches!(roots, Roots::Given([])) {
                continue;
            }
            let begun = Instant::now();
            let map = PageMap::read(&File::open(&file).unwrap(), roots).unwrap();
            let took = begun.elapsed();
            let tally = compare::every_page(&file, &map, roots, server.dialect());
            if tally.pages > 1000 && matches!(roots, Roots::Given(_)) {
                println!("{test}: {name}: {tally}; a map of {} bytes in {took:?}", map.bytes());
            }
            assert_eq!(tally.wrong, 0, "{name}");
            let sealed = tables::is_sealed(&name);
            assert_eq!(map.is_hidden(), sealed, "{name}");
            if sealed {
                assert_eq!(tally.hidden, tally.pages, "{name}");
            } else {
                assert_eq!((tally.unknown, tally.free_in_use), (0, 0), "{name}");
            }
            all += tally;
        }
    }
    println!("{test}: all: {all}");
    for name in ["churned", "zip1", "texts"].map(|name| server.file(&format!("test/{name}.ibd"))) {
        if name.exists() {
            mangled(&name);
        }
    }
    assert!(all.right > 1000 || settings.iter().any(|setting| setting.contains("page_size")));
}

/// A real file with random bytes where its bookkeeping is: nothing panics, nothing grows, nothing takes long.
fn mangled(file: &Path) {
    let whole = std::fs::read(file).unwrap();
    let page = PageMap::read(whole.as_slice(), Roots::InFile).unwrap().page_size() as usize;
    let (mut random, begun) = (0x9e37_79b9_7f4a_7c15_u64, Instant::now());
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap() % below
    };
    let mut bytes = whole.clone();
    for _ in 0..300 {
        let groups = whole.len().div_ceil(page * page);
        let touched: Vec<usize> =
            (0..=next(40)).map(|_| [0, 2, 2, 3, 4, next(groups) * page][next(6)] * page).collect();
        for start in &touched {
            bytes[start + next(page)] = u8::try_from(next(256)).unwrap();
        }
        if let Ok(map) = PageMap::read(bytes.as_slice(), Roots::InFile) {
            for number in (0..u32::try_from(whole.len() / page).unwrap()).step_by(7) {
                let _: Owner = map.index_of(number);
            }
            assert!(map.bytes() < 1 << 20, "{} bytes", map.bytes());
        }
        for start in touched {
            bytes[start..start + page].copy_from_slice(&whole[start..start + page]);
        }
    }
    assert!(begun.elapsed() < Duration::from_mins(1));
}

#[test]
fn every_page_of_a_stopped_server_is_of_the_index_that_it_says() {
    let Some(program) = Program::mariadb("every_page_of_a_stopped_server_is_of_the_index_that_it_says")
    else {
        return;
    };
    closed("full_crc32", &program, &[], tables::all);
}

#[test]
fn the_older_checksum_s_flags_are_read_as_well() {
    let Some(program) = Program::mariadb("the_older_checksum_s_flags_are_read_as_well") else { return };
    closed("crc32", &program, &["--innodb-checksum-algorithm=crc32"], tables::older);
}

#[test]
fn pages_of_other_sizes_are_laid_out_otherwise() {
    let Some(program) = Program::mariadb("pages_of_other_sizes_are_laid_out_otherwise") else { return };
    for size in ["4k", "8k", "32k", "64k"] {
        closed(size, &program, &[&format!("--innodb-page-size={size}")], tables::several);
    }
}

#[test]
fn mysql_s_files_differ_and_are_read() {
    let Some(program) = Program::mysql("mysql_s_files_differ_and_are_read") else { return };
    closed("mysql", &program, &[], tables::mysql);
}

#[test]
fn while_rows_come_in_no_page_is_given_to_a_wrong_index() {
    let Some(program) = Program::mariadb("while_rows_come_in_no_page_is_given_to_a_wrong_index") else {
        return;
    };
    let tally = live("live", &program, tables::INSERTS);
    assert_eq!(tally.wrong, 0);
    assert!(tally.right > 20 * (tally.unknown + tally.free_in_use), "more than 5 % is unknown: {tally}");
}

#[test]
fn while_rows_come_in_to_mysql_no_page_is_given_to_a_wrong_index() {
    let Some(program) = Program::mysql("while_rows_come_in_to_mysql_no_page_is_given_to_a_wrong_index")
    else {
        return;
    };
    let tally = live("live mysql", &program, tables::INSERTS);
    assert_eq!(tally.wrong, 0);
    assert!(tally.right > 20 * (tally.unknown + tally.free_in_use), "more than 5 % is unknown: {tally}");
}

#[test]
fn while_indexes_are_dropped_and_made_few_pages_go_by_their_former_index() {
    let Some(program) =
        Program::mariadb("while_indexes_are_dropped_and_made_few_pages_go_by_their_former_index")
    else {
        return;
    };
    let tally = live("churn", &program, tables::CHURN);
    assert!(tally.wrong * 50 < tally.right, "more than 2 % are wrong: {tally}");
}

/// Rows come in until the file has grown. The map is made at the beginning and refreshed only once the file has grown.
fn live(test: &str, program: &Program, load: &str) -> Tally {
    let small = ["--innodb-buffer-pool-size=16M", "--innodb-max-dirty-pages-pct-lwm=1"];
    let mut server = Server::start(program, &small);
    server.sql(tables::LIVE);
    let path = server.file("test/live.ibd");
    let file = File::open(&path).unwrap();
    let mut session = server.client(&[]);
    assert!(session.feed(load));
    let begun = Instant::now();
    while let Err(error) = PageMap::read(&file, Roots::InFile) {
        // Nothing of a new table is in its file until the first flush, and the map says so.
        assert!(matches!(error, InnodbError::Unwritten) && begun.elapsed() < DEADLINE, "{error}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let roots = server.roots().remove(&server::space_of(&path)).unwrap();
    let given = Roots::Given(&roots);
    let mut map = PageMap::read(&file, given).unwrap();
    let (begun, mut all, mut passes, mut refreshes, mut size) = (Instant::now(), Tally::default(), 0, 0, 0);
    while size < GROWN {
        assert!(begun.elapsed() < DEADLINE, "the file has only {size} bytes");
        std::thread::sleep(Duration::from_millis(50));
        size = file.metadata().unwrap().len();
        let tally = compare::every_page_of(&file, &map, given, program.dialect());
        all += tally;
        passes += 1;
        if map.is_stale(size) {
            map.refresh(&file, given).unwrap();
            refreshes += 1;
        }
    }
    session.end();
    println!("{test}: {passes} passes, {refreshes} refreshes, a map of {} bytes: {all}", map.bytes());
    assert!(all.right > 20_000 && refreshes > 3);
    // What was refreshed in steps is what it would be had it been made now.
    let roots = server.roots().remove(&server::space_of(&path)).unwrap();
    server.stop();
    map.refresh(&file, Roots::Given(&roots)).unwrap();
    let tally = compare::every_page_of(&file, &map, Roots::Given(&roots), program.dialect());
    println!("{test}: then stopped: {tally}");
    assert_eq!((tally.wrong, tally.unknown, tally.free_in_use), (0, 0, 0));
    all
}

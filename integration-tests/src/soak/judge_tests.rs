//! A soak that went wrong in one way fails for that way.

use std::sync::atomic::Ordering;

use super::*;

/// Two hours, one sample a minute.
fn samples(rss: impl Fn(f64) -> f64) -> Vec<Sample> {
    (0..120)
        .map(|minute| {
            let hours = f64::from(minute) / 60.0;
            let lag = f64::from(minute % 10);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few megabytes")]
            let rss = (rss(hours) * MIB) as u64;
            let (lag, blame) = (Some(lag), Some(lag));
            Sample {
                seconds: hours * 3600.0,
                rss,
                maps: 1 << 20,
                series: 300,
                lag,
                blame,
                ..Sample::default()
            }
        })
        .collect()
}

fn failed(samples: &[Sample], change: impl Fn(&mut Vec<Aftermath>, &mut Log, &Done)) -> Vec<&'static str> {
    let done = Done::default();
    for kind in [&done.updates, &done.bursts, &done.tables, &done.databases, &done.scans, &done.locks] {
        kind.store(1, Ordering::Relaxed);
    }
    let good = Aftermath { fault: "replay paused".to_owned(), lag: Some(0.0), left_over: String::new() };
    let mut aftermaths = vec![good];
    let mut log = Log::of(std::path::Path::new("/nowhere"));
    change(&mut aftermaths, &mut log, &done);
    let evidence =
        Evidence { samples, blind: &[], aftermaths: &aftermaths, log: &log, done: &done, ends: &[] };
    judge(&evidence)
        .into_iter()
        .filter(|finding| finding.kept != Some(true))
        .map(|found| found.promise)
        .collect()
}

#[test]
fn a_run_in_which_all_is_well_is_passed() {
    assert_eq!(failed(&samples(|_| 20.0), |_, _, _| {}), Vec::<&str>::new());
    // What is taken in the first quarter is not growth.
    assert_eq!(
        failed(&samples(|hours| if hours < 0.4 { 10.0 } else { 20.0 }), |_, _, _| {}),
        Vec::<&str>::new()
    );
}

#[test]
fn an_agent_that_was_restarted_has_a_first_quarter_too() {
    let mut restarted = samples(|hours| if hours < 0.8 { 10.0 } else { 20.0 });
    for sample in restarted.iter_mut().filter(|sample| sample.seconds >= 0.5 * 3600.0) {
        sample.life = 1;
    }
    assert_eq!(failed(&restarted, |_, _, _| {}), Vec::<&str>::new());
    let mut growing = samples(|hours| 20.0 + 3.0 * hours);
    growing[40..].iter_mut().for_each(|sample| sample.life = 1);
    assert_eq!(failed(&growing, |_, _, _| {}), ["resident memory is flat"]);
}

#[test]
fn memory_that_grows_by_three_mebibytes_an_hour_is_found() {
    assert_eq!(failed(&samples(|hours| 20.0 + 3.0 * hours), |_, _, _| {}), ["resident memory is flat"]);
    // Of 100 MiB it would be within five percent.
    assert_eq!(failed(&samples(|hours| 100.0 + 3.0 * hours), |_, _, _| {}), Vec::<&str>::new());
}

#[test]
fn an_account_that_does_not_add_up_once_is_found() {
    let mut samples = samples(|_| 20.0);
    samples[55].blame = Some(4.9);
    assert_eq!(failed(&samples, |_, _, _| {}), ["the account adds up to the lag"]);
}

#[test]
fn whatever_is_left_over_after_a_fault_is_found() {
    let found = failed(&samples(|_| 20.0), |aftermaths, _, _| aftermaths[0].left_over = "3 files".to_owned());
    assert_eq!(found, ["files, threads and connections return after each fault"]);
    assert_eq!(
        failed(&samples(|_| 20.0), |aftermaths, _, _| aftermaths[0].lag = None),
        ["lag is nothing at rest"]
    );
}

#[test]
fn an_error_in_peace_and_a_database_that_could_not_be_dropped_are_found() {
    let found = failed(&samples(|_| 20.0), |_, log, _| log.unexpected.push("ERROR".to_owned()));
    assert_eq!(found, ["no error without a fault"]);
    let found = failed(&samples(|_| 20.0), |_, _, done| done.sat_in.store(1, Ordering::Relaxed));
    assert_eq!(found, ["work of every kind was done, and hindered by nobody"]);
}

#[test]
fn a_run_of_minutes_says_nothing_of_growth() {
    let short: Vec<Sample> = samples(|hours| 20.0 + 3.0 * hours).into_iter().take(12).collect();
    assert!(failed(&short, |_, _, _| {}).contains(&"resident memory is flat"));
}

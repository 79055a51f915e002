use super::*;

const HOST: &str = "h";
const ME: &str = "7";

fn subject(table: &str) -> Subject {
    Subject { table: Some(table.into()), kind: Some("heap".into()), ..Subject::default() }
}

fn spent(rows: &[(&str, &str, &str, f64)]) -> Spent {
    rows.iter()
        .map(|(state, table, device, seconds)| {
            let doing = Doing { state: (*state).into(), subject: subject(table), device: (*device).into() };
            (doing, *seconds)
        })
        .collect()
}

fn flight(measure: Measure, party: Party) -> Flight {
    Flight { device: "vda".into(), measure, party }
}

fn of_thread(table: &str) -> Party {
    Party {
        instance: Some(ME.into()),
        role: Some("apply".into()),
        of_thread: true,
        subject: subject(table),
        ..Party::default()
    }
}

fn client(instance: &str, table: &str) -> Party {
    Party {
        instance: Some(instance.into()),
        service: format!("server-{instance}"),
        role: Some("client".into()),
        subject: subject(table),
        ..Party::default()
    }
}

fn stranger(culprit: &str) -> Party {
    Party { culprit: Some(culprit.into()), ..Party::default() }
}

fn around(flights: &Amounts<Flight>) -> Surroundings<'_> {
    Surroundings { host: HOST, instance: ME, flights, seconds: 1.0 }
}

fn latencies(class: Class, each: f64) -> Latencies {
    let mut latencies = Latencies::default();
    latencies.learn((HOST.into(), "vda".into(), class), 1000.0, 1000.0 * each);
    latencies
}

fn total(spent: &Spent, owed: &[(Owner, f64)]) -> f64 {
    spent.values().sum::<f64>() + owed.iter().map(|(_, seconds)| seconds).sum::<f64>()
}

#[test]
fn above_the_learned_time_the_read_is_owed_by_those_who_were_there_in_proportion() {
    let mut spent = spent(&[("read", "orders", "vda", 0.9)]);
    let flights = Amounts::from([
        (flight(Measure::Operations, of_thread("orders")), 100.0),
        (flight(Measure::Time, of_thread("orders")), 0.9),
        (flight(Measure::Time, client(ME, "items")), 3.0),
        (flight(Measure::Time, stranger("fio")), 1.0),
    ]);
    let owed = split(&mut spent, &around(&flights), &latencies(Class::Read, 0.001), &Company::default());
    // 100 reads take 0.1 s alone; 0.8 s is shared 3 : 1.
    assert!((spent.values().sum::<f64>() - 0.1).abs() < 1e-9, "{spent:?}");
    let of = |owner: &Owner| owed.iter().find(|(row, _)| row == owner).map_or(0.0, |(_, seconds)| *seconds);
    let items = Owner { role: Some("client".into()), ..Owner::about(Cause::Contention, subject("items")) };
    assert!((of(&items) - 0.6).abs() < 1e-9, "{owed:?}");
    assert!((of(&Owner::of(Cause::Contention).by("fio")) - 0.2).abs() < 1e-9, "{owed:?}");
    assert!((total(&spent, &owed) - 0.9).abs() < 1e-9);
}

#[test]
fn a_device_that_is_slow_without_company_is_nobodys_contention() {
    let before = spent(&[("read", "orders", "vda", 0.9)]);
    for others in [0.0, 0.015] {
        let flights = Amounts::from([
            (flight(Measure::Operations, of_thread("orders")), 10.0),
            (flight(Measure::Time, client(ME, "orders")), others),
        ]);
        let mut spent = before.clone();
        assert!(
            split(&mut spent, &around(&flights), &latencies(Class::Read, 0.001), &Company::default())
                .is_empty()
        );
        assert_eq!(spent, before);
    }
}

#[test]
fn nobody_owes_more_than_the_time_he_was_there() {
    let mut spent = spent(&[("read", "orders", "vda", 0.9)]);
    let flights = Amounts::from([
        (flight(Measure::Operations, of_thread("orders")), 10.0),
        (flight(Measure::Time, stranger("cron")), 0.05),
    ]);
    let owed = split(&mut spent, &around(&flights), &latencies(Class::Read, 0.001), &Company::default());
    assert!((owed[0].1 - 0.05).abs() < 1e-9, "{owed:?}");
    assert!((total(&spent, &owed) - 0.9).abs() < 1e-9);
}

#[test]
fn before_anything_was_learned_a_device_is_taken_to_serve_all_alike() {
    let mut spent = spent(&[("read", "orders", "vda", 0.9)]);
    let flights = Amounts::from([(flight(Measure::Time, stranger("fio")), 2.0)]);
    let owed = split(&mut spent, &around(&flights), &Latencies::default(), &Company::default());
    assert!((spent.values().sum::<f64>() - 0.3).abs() < 1e-9, "{spent:?}");
    assert!((owed[0].1 - 0.6).abs() < 1e-9, "{owed:?}");
}

#[test]
fn other_servers_are_named_and_other_devices_do_not_matter() {
    let mut spent =
        spent(&[("read", "orders", "vda", 0.5), ("read", "items", "vdb", 0.4), ("cpu", "", "", 0.1)]);
    let flights = Amounts::from([
        (flight(Measure::Time, client("8", "events")), 1.0),
        (flight(Measure::Time, Party { instance: Some("8".into()), ..of_thread("events") }), 1.0),
    ]);
    let owed = split(&mut spent, &around(&flights), &Latencies::default(), &Company::default());
    assert_eq!(owed.len(), 1);
    assert_eq!(owed[0].0.culprit.as_deref(), Some("server-8"));
    assert_eq!(owed[0].0.subject.table.as_deref(), Some("events"));
    assert!((owed[0].1 - 0.25).abs() < 1e-9, "{owed:?}");
    assert!((total(&spent, &owed) - 1.0).abs() < 1e-9);
}

#[test]
fn what_is_read_for_the_critical_thread_does_not_compete_with_it() {
    let mut spent = spent(&[("read", "orders", "vda", 0.9)]);
    let worker = |table| Party { role: Some("io_worker".into()), ..client(ME, table) };
    let apply = Party { of_thread: false, ..of_thread("orders") };
    let flights =
        Amounts::from([(flight(Measure::Time, worker("orders")), 0.9), (flight(Measure::Time, apply), 0.9)]);
    assert!(split(&mut spent, &around(&flights), &Latencies::default(), &Company::default()).is_empty());
}

#[test]
fn what_devices_take_is_learned_only_where_nobody_else_is() {
    let spent = spent(&[("read", "orders", "vda", 0.1), ("fsync", "wal", "vda", 0.5)]);
    let mut latencies = Latencies::default();
    let own = [("orders", 100.0), ("wal", 100.0)]
        .map(|(table, operations)| (flight(Measure::Operations, of_thread(table)), operations));
    let mut flights: Amounts<Flight> = own.into();
    flights.insert(flight(Measure::Time, stranger("fio")), 0.6);
    learn(&spent, &around(&flights), &mut latencies);
    assert_eq!(latencies.of(HOST, "vda", Class::Read), None);
    flights.insert(flight(Measure::Time, stranger("fio")), 0.01);
    learn(&spent, &around(&flights), &mut latencies);
    assert!((latencies.of(HOST, "vda", Class::Read).unwrap() - 0.001).abs() < 1e-9);
    assert!((latencies.of(HOST, "vda", Class::Fsync).unwrap() - 0.005).abs() < 1e-9);
}

#[test]
fn a_little_company_is_taken_off_what_is_learned() {
    let spent = spent(&[("read", "orders", "vda", 0.125)]);
    let flights = Amounts::from([
        (flight(Measure::Operations, of_thread("orders")), 200.0),
        (flight(Measure::Time, client(ME, "orders")), 0.25),
    ]);
    let mut latencies = Latencies::default();
    learn(&spent, &around(&flights), &mut latencies);
    assert!((latencies.of(HOST, "vda", Class::Read).unwrap() - 0.0005).abs() < 1e-9);
}

#[test]
fn who_is_there_as_usual_does_not_owe_what_is_slow_for_another_reason() {
    let flights = |seconds| {
        Amounts::from([
            (flight(Measure::Operations, of_thread("orders")), 100.0),
            (flight(Measure::Time, client(ME, "wal")), seconds),
        ])
    };
    let (usual, more) = (flights(0.1), flights(0.7));
    let mut company = Company::default();
    for _ in 0..5 {
        learn_company(&around(&usual), &mut company);
    }
    let latencies = latencies(Class::Read, 0.001);
    let mut slow = spent(&[("read", "orders", "vda", 0.9)]);
    assert!(split(&mut slow, &around(&usual), &latencies, &company).is_empty());
    let owed = split(&mut slow, &around(&more), &latencies, &company);
    assert!((owed[0].1 - 0.5).abs() < 1e-9, "{owed:?}");
}

#[test]
fn the_kernels_housekeeping_is_nobody_to_blame() {
    let flights = Amounts::from([
        (flight(Measure::Operations, of_thread("orders")), 100.0),
        (flight(Measure::Time, stranger("(write-back)")), 5.0),
        (flight(Measure::Time, stranger("[jbd2/vda-8]")), 5.0),
    ]);
    let mut slow = spent(&[("read", "orders", "vda", 0.9)]);
    let latencies = latencies(Class::Read, 0.001);
    assert!(split(&mut slow, &around(&flights), &latencies, &Company::default()).is_empty());
}

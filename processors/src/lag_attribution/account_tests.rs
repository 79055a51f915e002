use proptest::prelude::*;

use super::*;

const NOISE: f64 = 0.1;

static NOTHING: BTreeMap<Subject, f64> = BTreeMap::new();

fn index(name: &str) -> Owner {
    let subject = Subject { table: Some("orders".into()), index: Some(name.into()), ..Subject::default() };
    Owner::about(Cause::Replay, subject)
}

fn tick(lag: f64, charges: &[(Owner, f64)]) -> Tick<'_> {
    Tick { lag, charges, waiting: &NOTHING, noise: NOISE, comparable: true }
}

fn sum(account: &Account) -> f64 {
    account.owed().values().sum()
}

#[test]
fn what_is_owed_sums_to_the_lag_and_zero_lag_is_zero_blame() {
    let mut account = Account::default();
    for lag in [0.0, 0.4, 1.1, 5.0, 4.0, 0.0] {
        account.update(&tick(lag, &[(index("a"), 0.7), (Owner::of(Cause::Cpu), 0.3)]));
        assert!((sum(&account) - lag).abs() < 1e-9, "{lag}: {account:?}");
    }
    assert!(account.owed().is_empty());
}

#[test]
fn a_lag_that_was_there_before_the_agent_is_owed_to_unknown() {
    let mut account = Account::default();
    account.update(&tick(30.0, &[]));
    assert_eq!(account.owed()[&Owner::unknown()], 30.0);
}

#[test]
fn growth_that_no_charge_explains_is_demand() {
    let mut account = Account::default();
    account.update(&tick(0.0, &[]));
    account.update(&tick(2.0, &[(index("a"), 0.5)]));
    assert_eq!(account.owed()[&Owner::demand()], 1.5);
    assert_eq!(account.owed()[&index("a")], 0.5);
}

#[test]
fn a_culprit_that_is_over_fades_as_fast_as_others_use_the_thread() {
    let mut account = Account::default();
    account.update(&tick(0.0, &[]));
    for second in 1..=10 {
        account.update(&tick(f64::from(second), &[(index("a"), 1.0)]));
    }
    for _ in 0..10 {
        account.update(&tick(10.0, &[(index("b"), 1.0)]));
    }
    let owed = account.owed();
    assert!(owed[&index("b")] > owed[&index("a")], "{owed:?}");
    assert!((sum(&account) - 10.0).abs() < 1e-9);
}

#[test]
fn a_change_of_source_never_makes_blame() {
    let mut account = Account::default();
    account.update(&tick(0.0, &[]));
    account.update(&tick(4.0, &[(index("a"), 4.0)]));
    account.update(&Tick { comparable: false, ..tick(10.0, &[(index("b"), 1.0)]) });
    assert_eq!(account.owed()[&Owner::unknown()], 6.0);
    assert!(!account.owed().contains_key(&index("b")));
    account.update(&Tick { comparable: false, ..tick(5.0, &[]) });
    assert!((account.owed()[&index("a")] - 2.0).abs() < 1e-9);
}

#[test]
fn noise_names_nobody() {
    let mut account = Account::default();
    for lag in [0.02, 0.09, 0.05] {
        account.update(&tick(lag, &[(index("a"), 0.9)]));
        assert_eq!(account.owed().keys().collect::<Vec<_>>(), [&Owner::unknown()]);
        assert!(account.accrued().is_empty(), "noise accrues nothing");
    }
}

proptest! {
    #[test]
    fn on_every_tick_blame_is_finite_not_negative_and_sums_to_the_lag(
        ticks in proptest::collection::vec(
            (0.0_f64..1e6, proptest::collection::vec((0_u8..6, -1.0_f64..2.0), 0..6), any::<bool>()), 1..60)
    ) {
        let mut account = Account::default();
        for (lag, charges, comparable) in ticks {
            let charges: Vec<_> = charges.into_iter().map(|(n, s)| (index(&n.to_string()), s)).collect();
            account.update(&Tick { comparable, ..tick(lag, &charges) });
            prop_assert!(account.owed().values().all(|seconds| seconds.is_finite() && *seconds >= 0.0));
            let saved = |owner| account.saved(owner);
            prop_assert!(account.owed().keys().all(|owner| (0.0..=lag).contains(&saved(owner))));
            prop_assert!((sum(&account) - lag).abs() <= 1e-9 * lag.max(1.0));
        }
    }
}

#[test]
fn growth_that_no_charge_explains_is_split_by_the_work_that_waits() {
    let table = |name: &str| Subject { table: Some(name.into()), ..Subject::default() };
    let waiting = BTreeMap::from([(table("a"), 300.0), (table("b"), 100.0)]);
    let mut account = Account::default();
    account.update(&tick(0.0, &[]));
    account.update(&Tick { waiting: &waiting, ..tick(2.0, &[]) });
    assert_eq!(account.owed()[&Owner::about(Cause::Demand, table("a"))], 1.5);
    assert_eq!(account.owed()[&Owner::about(Cause::Demand, table("b"))], 0.5);
    assert!(!account.owed().contains_key(&Owner::demand()));
}

#[test]
fn what_would_be_saved_is_what_was_taken_since_the_lag_began_and_never_more_than_the_lag() {
    let mut account = Account::default();
    account.update(&tick(0.0, &[]));
    account.update(&tick(1.0, &[(index("a"), 0.7), (index("b"), 0.6)]));
    account.update(&tick(2.0, &[(index("a"), 0.7)]));
    assert!((account.saved(&index("a")) - 1.4).abs() < 1e-9);
    assert!((account.saved(&index("b")) - 0.6).abs() < 1e-9);
    account.update(&tick(0.5, &[]));
    assert_eq!(account.saved(&index("a")), 0.5);
    account.update(&tick(0.0, &[]));
    account.update(&tick(3.0, &[]));
    assert_eq!(account.saved(&index("a")), 0.0, "another episode");
}

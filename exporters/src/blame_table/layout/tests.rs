//! The table as the terminal shows it.

use super::{super::state::Wait, *};

const PLAIN: Style = Style { colour: false, cut: true };
/// As into a pipe.
const WHOLE: Style = Style { colour: false, cut: false };

fn table(view: &View, limit: usize, style: Style) -> String {
    super::table(view, limit, style).text
}

fn row(seconds: f64, cause: &str, table: &str, index: &str, kind: &str) -> Row {
    let namespace = if table.is_empty() { "" } else { "shop|public" };
    Row {
        seconds,
        cause: cause.to_owned(),
        namespace: namespace.to_owned(),
        table: table.to_owned(),
        index: index.to_owned(),
        kind: kind.to_owned(),
        ..Row::default()
    }
}

fn view() -> View {
    View {
        at: 1_700_000_000_000_000_000,
        server: "orders-replica".to_owned(),
        lag: Some(12.4),
        status: Some("streaming".to_owned()),
        source: Some("primary".to_owned()),
        wait: Some(Wait { kind: "lock".to_owned(), holder: Some(21685) }),
        rows: vec![
            row(7.44, "replay", "orders", "orders_customer_id_created_at_idx", "index"),
            row(3.1, "replay", "orders", "", "heap"),
            row(0.8, "fsync", "", "", "wal"),
            row(0.62, "unknown", "", "", ""),
            row(0.44, "replay", "a_table_with_quite_a_long_name", "", "toast"),
        ],
        now: vec![("read orders_pkey".to_owned(), 0.62), ("cpu".to_owned(), 0.38)],
        ..View::default()
    }
}

#[test]
fn a_lagging_channel_is_a_table_that_adds_up() {
    let expected = "\
22:13:20 UTC  orders-replica  lag 12.4 s  streaming  waits: lock (pid 21685)  measured: primary
        owed  share                cause       table                       index
      7.44 s   60 %  #######       replay      shop.public.orders          …stomer_id_created_at_idx
      3.10 s   25 %  ###           replay      shop.public.orders
      0.80 s    6 %  #             fsync       -                           [wal]
      0.44 s  by 1 more
      12.4 s  in all, of them unknown 0.62 s (5 %)
  holds it now: read orders_pkey 62 %, cpu 38 %
";
    assert_eq!(table(&view(), 3, PLAIN), expected);
}

#[test]
fn a_replica_in_step_is_one_calm_line() {
    let view = View { lag: Some(0.0123), channel: "c1".to_owned(), ..view() };
    assert_eq!(table(&view, 10, PLAIN), "22:13:20 UTC  orders-replica/c1: in step (lag 0.012 s)\n");
}

#[test]
fn rows_that_would_be_noise_are_not_shown_but_summed() {
    let rows = vec![
        row(4.0, "replay", "orders", "", "heap"),
        row(0.0049, "replay", "tiny", "", "heap"),
        row(0.0, "fsync", "", "", "wal"),
        row(0.0, "unknown", "", "", ""),
    ];
    let text = table(&View { rows, now: Vec::new(), lag: Some(4.0), ..view() }, 1, PLAIN);
    let expected = "
        owed  share                cause       table                       index
      4.00 s  100 %  ############  replay      shop.public.orders
      4.00 s  in all, of them unknown 0.00 s (0 %)
";
    assert!(text.ends_with(expected), "{text}");
    // Nothing worth a name: no heading above nothing.
    let rows = vec![row(0.001, "replay", "tiny", "", "heap"), row(3.9, "unknown", "", "", "")];
    let text = table(&View { rows, now: Vec::new(), lag: Some(4.0), ..view() }, 1, PLAIN);
    assert!(text.ends_with("primary\n      3.90 s  in all, of them unknown 3.90 s (98 %)\n"), "{text}");
}

#[test]
fn what_is_wrong_is_said_plainly_and_a_primary_is_left_in_peace() {
    let of = |status: &str, lag: Option<f64>, stale: bool| {
        let (status, wait) = (Some(status.to_owned()), None);
        let view = View { status, wait, lag, stale, rows: Vec::new(), now: Vec::new(), ..view() };
        table(&view, 10, PLAIN)
    };
    let awaited = "  not yet attributed: waiting for lag_attribution of orders-replica\n";
    for (status, lag, stale, expected) in [
        (
            "promoted",
            None,
            false,
            "22:13:20 UTC  orders-replica: no replica (promoted or a primary)\n".to_owned(),
        ),
        (
            "promoted",
            Some(3.0),
            true,
            "22:13:20 UTC  orders-replica: no replica (promoted or a primary)\n".to_owned(),
        ),
        (
            "down",
            None,
            false,
            "22:13:20 UTC  orders-replica: DOWN: does not answer; its lag is not known\n".to_owned(),
        ),
        (
            "streaming",
            None,
            false,
            "22:13:20 UTC  orders-replica: streaming; its lag is not known\n".to_owned(),
        ),
        (
            "down",
            Some(3.0),
            true,
            "22:13:20 UTC  orders-replica  lag 3.00 s  stale  DOWN: does not answer  measured: primary\n"
                .to_owned()
                + awaited,
        ),
        (
            "paused",
            Some(0.0),
            false,
            "22:13:20 UTC  orders-replica  lag 0.00 s  PAUSED: replay was told to stop  measured: primary\n"
                .to_owned(),
        ),
        (
            "streaming",
            Some(0.0),
            true,
            "22:13:20 UTC  orders-replica  lag 0.00 s  stale  streaming  measured: primary\n".to_owned(),
        ),
    ] {
        assert_eq!(of(status, lag, stale), expected);
    }
}

#[test]
fn a_lag_without_blame_says_what_is_awaited() {
    let view = View { rows: Vec::new(), now: Vec::new(), ..view() };
    assert!(
        table(&view, 10, PLAIN)
            .ends_with("\n  not yet attributed: waiting for lag_attribution of orders-replica\n")
    );
}

#[test]
fn nothing_is_wider_than_the_terminal_and_nothing_commands_it() {
    let mut view = view();
    view.server = "s".repeat(300);
    view.now = vec![("read ".to_owned() + &"x".repeat(300), 1.0)];
    view.rows.push(row(99999.0, &"c".repeat(300), "evil\x1b[2J\u{202e}\u{9b}\ntable", &"i".repeat(300), ""));
    let text = table(&view, 10, PLAIN);
    assert!(!text.contains(['\x1b', '\u{9b}', '\u{202e}']));
    assert!(text.lines().next().unwrap().contains("  lag 12.4 s  streaming"), "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{line}");
    }
}

#[test]
fn colour_is_only_where_it_is_wanted() {
    assert!(table(&view(), 10, Style { colour: true, ..PLAIN }).contains("\x1b[31m#######     \x1b[0m"));
    assert!(!table(&view(), 10, PLAIN).contains('\x1b'));
}

#[test]
fn a_holder_is_a_process_or_a_connection() {
    let text = table(&View { has_connections: true, ..view() }, 3, PLAIN);
    assert!(text.contains("  waits: lock (connection 21685)  "), "{text}");
}

#[test]
fn a_wait_without_a_holder_names_none() {
    let wait = Some(Wait { kind: "conflict".to_owned(), holder: None });
    let text = table(&View { wait, ..view() }, 3, PLAIN);
    assert!(text.contains("  streaming  waits: conflict  measured: primary\n"), "{text}");
}

#[test]
fn a_name_that_is_cut_loses_its_database_first_and_its_own_end_never() {
    let namespace = |namespace: &str, table: &str| Row {
        namespace: namespace.to_owned(),
        ..row(1.0, "replay", table, "", "heap")
    };
    for (row, expected) in [
        (namespace("bench|public", "pgbench_branc"), "bench.public.pgbench_branc"),
        (namespace("bench|public", "pgbench_tellers"), "…public.pgbench_tellers"),
        (namespace("bench|public", "pgbench_accounts_2024"), "…pgbench_accounts_2024"),
        (namespace("bench", "pgbench_accounts_2024"), "…pgbench_accounts_2024"),
        (namespace("bench|public", "exactly_26_characters_long"), "exactly_26_characters_long"),
        (namespace("bench|public", "measurements_of_the_year_2024"), "…urements_of_the_year_2024"),
        (namespace("", "orders"), "orders"),
    ] {
        let name = table_name(&row, PLAIN);
        assert_eq!(name, expected);
        assert!(name.chars().count() <= TABLE);
    }
}

#[test]
fn nothing_is_cut_in_a_pipe() {
    let expected = "\
22:13:20 UTC  orders-replica  lag 12.4 s  streaming  waits: lock (pid 21685)  measured: primary
        owed  share                cause       table                                       index
      7.44 s   60 %  #######       replay      shop.public.orders                          orders_customer_id_created_at_idx
      3.10 s   25 %  ###           replay      shop.public.orders
      0.80 s    6 %  #             fsync       -                                           [wal]
      0.44 s    4 %                replay      shop.public.a_table_with_quite_a_long_name  [toast]
      12.4 s  in all, of them unknown 0.62 s (5 %)
  holds it now: read orders_pkey 62 %, cpu 38 %
";
    assert_eq!(table(&view(), 10, WHOLE), expected);
    let server = "s".repeat(300);
    assert!(table(&View { server: server.clone(), ..view() }, 10, WHOLE).contains(&server));
}

#[test]
fn without_the_primary_in_step_is_said_of_what_has_arrived() {
    let view = View { lag: Some(0.0), source: Some("local".to_owned()), ..view() };
    assert_eq!(
        table(&view, 10, PLAIN),
        "22:13:20 UTC  orders-replica: in step with what has arrived (primary not asked)\n"
    );
}

#[test]
fn a_server_that_is_down_for_long_is_one_line() {
    let since = Some(1_700_000_000_000_000_000);
    let view =
        View { status: Some("down".to_owned()), down_since: since, lag: Some(6.19), stale: true, ..view() };
    assert_eq!(table(&view, 10, PLAIN), "orders-replica: DOWN since 22:13:20 UTC, lag was 6.19 s\n");
    let view = View { lag: None, ..view };
    assert_eq!(table(&view, 10, PLAIN), "orders-replica: DOWN since 22:13:20 UTC\n");
}

#[test]
fn who_keeps_a_device_busy_is_named_where_the_table_would_be_or_beside_it() {
    let by = |culprit: &str, role: &str, row: Row| Row {
        culprit: culprit.to_owned(),
        role: role.to_owned(),
        ..row
    };
    let view = View {
        rows: vec![
            by("/system.slice/backup.service", "", row(5.0, "contention", "", "", "")),
            by("", "client", row(4.0, "contention", "items", "", "heap")),
            by("billing", "vacuum", row(2.0, "contention", "items", "", "heap")),
            by("cpu limit of its cgroup", "", row(1.4, "cpu", "", "", "")),
        ],
        now: vec![],
        ..view()
    };
    let shown = table(&view, 9, PLAIN);
    for line in [
        "      5.00 s   40 %  #####         contention  …stem.slice/backup.service",
        "      4.00 s   32 %  ####          contention  shop.public.items           by client",
        "      2.00 s   16 %  ##            contention  shop.public.items           by billing, vacuum",
        "      1.40 s   11 %  #             cpu         cpu limit of its cgroup",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
}

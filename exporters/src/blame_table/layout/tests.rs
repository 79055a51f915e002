//! The table as the terminal shows it.

use super::*;

const PLAIN: Style = Style { colour: false };

fn row(seconds: f64, cause: &str, table: &str, index: &str, kind: &str) -> Row {
    let namespace = if table.is_empty() { "" } else { "shop|public" };
    Row {
        seconds,
        cause: cause.to_owned(),
        namespace: namespace.to_owned(),
        table: table.to_owned(),
        index: index.to_owned(),
        kind: kind.to_owned(),
    }
}

fn view() -> View {
    View {
        at: 1_700_000_000_000_000_000,
        server: "orders-replica".to_owned(),
        lag: 12.4,
        status: Some("streaming".to_owned()),
        source: Some("primary".to_owned()),
        wait: Some("lock".to_owned()),
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
22:13:20 UTC  orders-replica  lag 12.4 s  streaming  waits: lock  measured: primary
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
    let view = View { lag: 0.0123, channel: "c1".to_owned(), ..view() };
    assert_eq!(table(&view, 10, PLAIN), "orders-replica/c1: in step (lag 0.012 s)\n");
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
    view.rows.push(row(99999.0, &"c".repeat(300), "evil\x1b[2J\ntable", &"i".repeat(300), ""));
    let text = table(&view, 10, PLAIN);
    assert!(!text.contains('\x1b'));
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{line}");
    }
}

#[test]
fn colour_is_only_where_it_is_wanted() {
    assert!(table(&view(), 10, Style { colour: true }).contains("\x1b[31m#######     \x1b[0m"));
    assert!(!table(&view(), 10, PLAIN).contains('\x1b'));
}

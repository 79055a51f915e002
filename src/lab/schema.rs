//! The tables of the laboratory: `orders` with one large index apart from the rest, and a small `customers`.
//!
//! It does not update them; see `workload.rs`.

/// Statements that make and fill tables, and the relations whose pages are to be cold on the replica.
#[derive(Debug, Clone)]
pub struct Schema {
    /// Run once on the primary, in order, each outside a transaction.
    pub setup: Vec<String>,
    /// Names as in SQL; what [`super::Lab::inject_cold_index`] evicts.
    pub cold: Vec<String>,
}

impl Schema {
    /// The index that the laboratory makes cold.
    pub const COLD_INDEX: &str = "orders_reference_idx";
    /// Rows of `orders` that make about 13,500 leaf pages (105 MiB): over six times the replica's buffers.
    pub const DEFAULT_ROWS: u32 = 200_000;

    /// `orders` with `rows` rows, and `customers` with a tenth of them.
    ///
    /// Every update writes a random `reference`, so it inserts into a random leaf of `orders_reference_idx`.
    /// Its fillfactor of 10 spreads the rows over many leaves and keeps them from splitting. The table's own
    /// fillfactor leaves room for new versions beside the old ones.
    #[must_use]
    pub fn orders(rows: u32) -> Self {
        let customers = (rows / 10).max(1);
        let setup = [
            "CREATE TABLE customers (id bigint PRIMARY KEY, city int NOT NULL, name text NOT NULL, \
             balance bigint NOT NULL DEFAULT 0, seen timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 50)"
                .to_owned(),
            format!(
                "INSERT INTO customers (id, city, name) \
                 SELECT i, i % 100, 'customer ' || i FROM generate_series(1, {customers}) i"
            ),
            "CREATE INDEX customers_city_idx ON customers (city)".to_owned(),
            "CREATE INDEX customers_seen_idx ON customers (seen)".to_owned(),
            "CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint NOT NULL, status int NOT NULL, \
             created_at timestamptz NOT NULL, reference text NOT NULL) WITH (fillfactor = 50)"
                .to_owned(),
            format!(
                "INSERT INTO orders SELECT i, i % {customers} + 1, i % 5, \
                 now() - i * interval '1 second', md5(i::text) FROM generate_series(1, {rows}) i"
            ),
            "CREATE INDEX orders_customer_id_idx ON orders (customer_id)".to_owned(),
            "CREATE INDEX orders_created_at_idx ON orders (created_at)".to_owned(),
            "CREATE INDEX orders_status_idx ON orders (status)".to_owned(),
            "CREATE INDEX orders_reference_idx ON orders (reference) WITH (fillfactor = 10)".to_owned(),
            // Hint bits and the free space map now, not as side effects of the measured updates.
            "VACUUM ANALYZE orders".to_owned(),
            "VACUUM ANALYZE customers".to_owned(),
        ];
        Self { setup: setup.into(), cold: vec![Self::COLD_INDEX.to_owned()] }
    }
}

impl Default for Schema {
    fn default() -> Self {
        Self::orders(Self::DEFAULT_ROWS)
    }
}

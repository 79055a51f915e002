//! More tables than the usual two, each for one way to make a replica lag. They are added to a [`Schema`]; what is
//! cold and what is updated is said by whoever injects.

use super::{Schema, Updates};

impl Schema {
    /// A table like `orders` with `rows` rows: every update inserts into a random leaf of `<name>_reference_idx`.
    #[must_use]
    pub fn with_reference_table(self, name: &str, rows: u32) -> Self {
        self.with([
            format!(
                "CREATE TABLE {name} (id bigint PRIMARY KEY, status int NOT NULL, reference text NOT NULL) \
                 WITH (fillfactor = 50)"
            ),
            format!("INSERT INTO {name} SELECT i, i % 5, md5(i::text) FROM generate_series(1, {rows}) i"),
            format!("CREATE INDEX {name}_reference_idx ON {name} (reference) WITH (fillfactor = 10)"),
            format!("VACUUM ANALYZE {name}"),
        ])
    }

    /// The same in `parts` partitions of the table `name`, which itself has no file.
    #[must_use]
    pub fn with_partitions(self, name: &str, parts: u32, rows: u32) -> Self {
        let part = |n| {
            format!(
                "CREATE TABLE {name}_p{n} PARTITION OF {name} FOR VALUES WITH (MODULUS {parts}, REMAINDER {n}) \
                 WITH (fillfactor = 50)"
            )
        };
        let index = |n| {
            format!(
                "CREATE INDEX {name}_p{n}_reference_idx ON {name}_p{n} (reference) WITH (fillfactor = 10)"
            )
        };
        self.with([format!(
            "CREATE TABLE {name} (id bigint PRIMARY KEY, status int NOT NULL, reference text NOT NULL) \
             PARTITION BY HASH (id)"
        )])
        .with((0..parts).map(part))
        .with([format!("INSERT INTO {name} SELECT i, i % 5, md5(i::text) FROM generate_series(1, {rows}) i")])
        .with((0..parts).map(index))
        // Takes the partitions' own indexes for its parts.
        .with([
            format!("CREATE INDEX {name}_reference_idx ON {name} (reference)"),
            format!("VACUUM ANALYZE {name}"),
        ])
    }

    /// A table whose rows are small and whose bodies, of about a third of a page each, are in its TOAST table.
    #[must_use]
    pub fn with_documents(self, name: &str, rows: u32) -> Self {
        self.with([
            format!("CREATE TABLE {name} (id bigint PRIMARY KEY, body text NOT NULL) WITH (fillfactor = 50)"),
            // Uncompressed: random text would be kept as it is, and what is not random would shrink.
            format!("ALTER TABLE {name} ALTER COLUMN body SET STORAGE EXTERNAL"),
            format!(
                "INSERT INTO {name} SELECT i, repeat(md5(i::text), 70) FROM generate_series(1, {rows}) i"
            ),
            format!("VACUUM ANALYZE {name}"),
        ])
    }

    /// A table with `indexes` indexes besides its primary key, all small.
    #[must_use]
    pub fn with_many_indexes(self, name: &str, indexes: u32, rows: u32) -> Self {
        let columns: Vec<String> = (0..indexes).map(|n| format!("c{n} int NOT NULL")).collect();
        let random = ", (random() * 1e6)::int".repeat(indexes as usize);
        let columns = columns.join(", ");
        let index = |n| format!("CREATE INDEX {name}_c{n}_idx ON {name} (c{n}) WITH (fillfactor = 40)");
        self.with([
            format!("CREATE TABLE {name} (id bigint PRIMARY KEY, {columns}) WITH (fillfactor = 50)"),
            format!("INSERT INTO {name} SELECT i{random} FROM generate_series(1, {rows}) i"),
        ])
        .with((0..indexes).map(index))
        .with([format!("VACUUM ANALYZE {name}")])
    }

    /// A table of about `megabytes` in `parts` partitions `<name>_p0` and so on, which nobody updates: each to be read
    /// from end to end by a session of its own.
    #[must_use]
    pub fn with_archive(self, name: &str, megabytes: u32, parts: u32) -> Self {
        // Seven rows of a kilobyte fill a page.
        let rows = megabytes * 128 * 7;
        let part = |n| format!("CREATE TABLE {name}_p{n} PARTITION OF {name} FOR VALUES IN ({n})");
        self.with([format!(
            "CREATE TABLE {name} (part int NOT NULL, filler text NOT NULL) PARTITION BY LIST (part)"
        )])
        .with((0..parts).map(part))
        .with([
            format!(
                "INSERT INTO {name} SELECT i % {parts}, repeat('x', 1060) FROM generate_series(1, {rows}) i"
            ),
            format!("VACUUM ANALYZE {name}"),
        ])
    }

    /// Tables `<name>_1` to `<name>_<count>`, empty.
    #[must_use]
    pub fn with_small_tables(self, name: &str, count: u32) -> Self {
        // A transaction for each hundred: one for all would need more locks than a server has.
        let chunk = |first: u32| {
            format!(
                "DO $$ BEGIN FOR i IN {first}..{} LOOP EXECUTE 'CREATE TABLE {name}_' || i || ' (id int)'; \
                 END LOOP; END $$",
                (first + 99).min(count)
            )
        };
        self.with((1..=count).step_by(100).map(chunk))
    }

    /// A function for [`Updates::mixed`] over two tables made by [`Schema::with_reference_table`], or `orders`.
    #[must_use]
    pub fn with_mixture(self, first: &str, second: &str) -> Self {
        let update = |table| {
            format!(
                "UPDATE {table} SET reference = md5(random()::text), status = (random() * 4)::int WHERE id = k;"
            )
        };
        self.with([format!(
            "CREATE FUNCTION mixed(keys bigint[], of_ten int) RETURNS void LANGUAGE plpgsql AS $$ \
             DECLARE k bigint; BEGIN FOREACH k IN ARRAY keys LOOP \
             IF k * 7 % 10 < of_ten THEN {} ELSE {} END IF; END LOOP; END $$",
            update(first),
            update(second)
        )])
    }

    fn with(mut self, statements: impl IntoIterator<Item = String>) -> Self {
        self.setup.extend(statements);
        self
    }
}

impl Updates {
    /// Rewrites `reference` of the first `keys` rows of a table made by [`Schema::with_reference_table`] or
    /// [`Schema::with_partitions`].
    #[must_use]
    pub fn reference(table: &str, keys: i64) -> Self {
        let sql = format!(
            "UPDATE {table} SET reference = md5(random()::text), status = (random() * 4)::int \
             WHERE id = ANY($1::bigint[])"
        );
        Self { sql, keys }
    }

    /// Updates two tables in turn, the first `of_ten` times of ten: the log has the same mixture everywhere.
    #[must_use]
    pub fn mixed(of_ten: u32, keys: i64) -> Self {
        Self { sql: format!("SELECT mixed($1::bigint[], {of_ten})"), keys }
    }

    /// Adds orders, each with an entry in a random page of the index. Nothing dies: no query on a replica stands in
    /// the way of its clean-up.
    #[must_use]
    pub fn new_orders() -> Self {
        let sql = "INSERT INTO orders SELECT (random() * 1e15)::bigint + 1000000000, key, 1, now(), md5(random()::text) \
                   FROM unnest($1::bigint[]) key";
        Self { sql: sql.to_owned(), keys: 2_000 }
    }

    /// Gives the first `keys` documents new bodies: the old ones are marked dead where they are, one here and one there.
    #[must_use]
    pub fn documents(table: &str, keys: i64) -> Self {
        let sql = format!(
            "UPDATE {table} SET body = repeat(md5(random()::text), 70) \
             WHERE id = ANY(SELECT key * 7919 % {keys} + 1 FROM unnest($1::bigint[]) key)"
        );
        Self { sql, keys }
    }

    /// Changes every indexed column of the first `keys` rows, so that each index gets an entry.
    #[must_use]
    pub fn many_indexes(table: &str, indexes: u32, keys: i64) -> Self {
        let set: Vec<String> = (0..indexes).map(|n| format!("c{n} = (random() * 1e6)::int")).collect();
        let sql = format!("UPDATE {table} SET {} WHERE id = ANY($1::bigint[])", set.join(", "));
        Self { sql, keys }
    }
}

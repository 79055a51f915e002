//! Chunks, compressed chunks and continuous aggregates, in the three shapes that TimescaleDB's catalog has had. The
//! extension is not needed: a schema that has those tables is what the agent looks at.

use blameio_databases::{DatabaseSettings, FileKind};
use blameio_pipeline::Extension;
use tokio_postgres::Client;

use crate::{
    cluster::{Cluster, watch},
    name, name_of, resolved, run, tail,
};

const CATALOG: &str = "CREATE SCHEMA _timescaledb_catalog; CREATE SCHEMA _timescaledb_internal; CREATE SCHEMA reporting;
    CREATE SCHEMA elsewhere; GRANT USAGE ON SCHEMA _timescaledb_catalog TO PUBLIC;
    CREATE TABLE _timescaledb_catalog.hypertable (id int PRIMARY KEY, schema_name name NOT NULL, table_name name NOT NULL,
        associated_schema_name name, associated_table_prefix name, num_dimensions smallint, compression_state smallint,
        compressed_hypertable_id int, status int, UNIQUE (table_name, schema_name));
    CREATE TABLE _timescaledb_catalog.continuous_agg (mat_hypertable_id int PRIMARY KEY, raw_hypertable_id int,
        parent_mat_hypertable_id int, user_view_schema name, user_view_name name, partial_view_schema name,
        partial_view_name name, direct_view_schema name, direct_view_name name, materialized_only bool);
    INSERT INTO _timescaledb_catalog.hypertable (id, schema_name, table_name) VALUES
        (1, 'public', 'metrics'), (4, '_timescaledb_internal', '_materialized_hypertable_4');
    INSERT INTO _timescaledb_catalog.continuous_agg (mat_hypertable_id, raw_hypertable_id, user_view_schema, user_view_name)
        VALUES (4, 1, 'reporting', 'daily')";
const TABLES: &str = "CREATE TABLE metrics (gone int, at timestamptz, device int, value float8, note text);
    ALTER TABLE metrics DROP gone; ALTER TABLE metrics ADD CONSTRAINT metrics_pkey PRIMARY KEY (at, device);
    CREATE INDEX metrics_device_idx ON metrics (device, at DESC); CREATE INDEX metrics_value_idx ON metrics (value);
    CREATE INDEX a_name_of_an_index_that_is_too_long_to_follow_that_of_a_chunk ON metrics (note);
    CREATE TABLE _timescaledb_internal._materialized_hypertable_4 (bucket timestamptz, mean float8);
    CREATE INDEX _materialized_hypertable_4_bucket_idx ON _timescaledb_internal._materialized_hypertable_4 (bucket);
    CREATE TABLE _timescaledb_internal._hyper_4_5_chunk () INHERITS (_timescaledb_internal._materialized_hypertable_4);
    CREATE INDEX _hyper_4_5_chunk__materialized_hypertable_4_bucket_idx ON _timescaledb_internal._hyper_4_5_chunk (bucket);
    CREATE VIEW reporting.daily AS SELECT * FROM _timescaledb_internal._materialized_hypertable_4;
    CREATE TABLE metrics_archive () INHERITS (metrics)";
/// Up to 2.28 an internal hypertable holds what was compressed.
const INTERNAL: &str =
    "CREATE TABLE _timescaledb_internal._compressed_hypertable_2 (device int, _ts_meta_count int);
    INSERT INTO _timescaledb_catalog.hypertable (id, schema_name, table_name)
        VALUES (2, '_timescaledb_internal', '_compressed_hypertable_2');
    UPDATE _timescaledb_catalog.hypertable SET compressed_hypertable_id = 2 WHERE id = 1";

/// A shape of the catalog.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    tables: &'static str,
    relid: bool,
}

const SHAPES: [Shape; 3] = [
    Shape {
        name: "of_2_11",
        tables: "CREATE TABLE _timescaledb_catalog.chunk (id int PRIMARY KEY, hypertable_id int, schema_name name,
            table_name name, compressed_chunk_id int, dropped bool DEFAULT false, status int DEFAULT 0,
            osm_chunk bool DEFAULT false, creation_time timestamptz, UNIQUE (schema_name, table_name));
            INSERT INTO _timescaledb_catalog.chunk VALUES (90, 1, 'nowhere', '_hyper_1_90_chunk', NULL, true, 0, false),
            (91, 77, 'public', 'metrics_archive', NULL, false, 0, true), (92, 1, '', '', 93, false, 0, false)",
        relid: false,
    },
    Shape {
        name: "of_2_19",
        tables: "CREATE TABLE _timescaledb_catalog.chunk (id int PRIMARY KEY, hypertable_id int, schema_name name,
            table_name name, compressed_chunk_id int, status int DEFAULT 0, osm_chunk bool DEFAULT false,
            creation_time timestamptz, UNIQUE (schema_name, table_name));
            CREATE TABLE _timescaledb_catalog.compression_settings (relid regclass PRIMARY KEY, compress_relid regclass,
            segmentby text[], orderby text[]);
            INSERT INTO _timescaledb_catalog.chunk VALUES (91, 1, 'nowhere', 'osm', NULL, 0, true)",
        relid: false,
    },
    Shape {
        name: "of_2_29",
        tables: "CREATE TABLE _timescaledb_catalog.chunk (id int PRIMARY KEY, relid regclass, hypertable_id int,
            status int DEFAULT 0, osm_chunk bool DEFAULT false, creation_time timestamptz);
            CREATE TABLE _timescaledb_catalog.compression_settings (relid regclass PRIMARY KEY, compress_relid regclass,
            segmentby text[], orderby text[]);
            INSERT INTO _timescaledb_catalog.chunk VALUES (90, 4000000000::oid::regclass, 1, 0, true),
            (91, NULL, 1, 0, false), (92, 'metrics_archive', 77, 0, false)",
        relid: true,
    },
];

impl Shape {
    /// A chunk of a hypertable; what was compressed of it, if anything, is made with it.
    fn chunk(self, id: u32, hypertable: u32, schema: &str, chunk: &str) -> String {
        if self.relid {
            format!(
                "INSERT INTO _timescaledb_catalog.chunk (id, relid, hypertable_id) VALUES ({id}, '{schema}.{chunk}', {hypertable})"
            )
        } else {
            format!(
                "INSERT INTO _timescaledb_catalog.chunk (id, hypertable_id, schema_name, table_name) \
                 VALUES ({id}, {hypertable}, '{schema}', '{chunk}')"
            )
        }
    }

    /// Compresses a chunk of `metrics`; the compressed chunk's name is told.
    fn compress(self, id: u32, chunk: &str) -> (String, String) {
        let number = id + 20;
        if self.relid {
            let compressed = format!("{chunk}_compressed");
            let sql = format!(
                "CREATE TABLE _timescaledb_internal.{compressed} (device int, note text);
                 INSERT INTO _timescaledb_catalog.compression_settings VALUES
                 ('_timescaledb_internal.{chunk}', '_timescaledb_internal.{compressed}')"
            );
            return (compressed, sql);
        }
        let compressed = format!("compress_hyper_2_{number}_chunk");
        let sql = format!(
            "CREATE TABLE _timescaledb_internal.{compressed} (note text) INHERITS (_timescaledb_internal._compressed_hypertable_2);
             INSERT INTO _timescaledb_catalog.chunk (id, hypertable_id, schema_name, table_name)
                 VALUES ({number}, 2, '_timescaledb_internal', '{compressed}');
             UPDATE _timescaledb_catalog.chunk SET compressed_chunk_id = {number} WHERE id = {id}"
        );
        (compressed, sql)
    }
}

/// A chunk of `metrics` with the indexes that TimescaleDB would make, and two that somebody made by hand.
fn chunk(id: u32) -> (String, String) {
    let chunk = format!("_hyper_1_{id}_chunk");
    let long = format!("{chunk}_a_name_of_an_index_that_is_too_long_to_follow_t");
    let full = format!("_timescaledb_internal.{chunk}");
    let sql = format!(
        "CREATE TABLE {full} (CONSTRAINT \"{id}_7_metrics_pkey\" PRIMARY KEY (at, device)) INHERITS (metrics);
         CREATE INDEX {chunk}_metrics_device_idx ON {full} (device, at DESC); CREATE INDEX by_hand_{id} ON {full} (value);
         CREATE INDEX only_here_{id} ON {full} (device); CREATE INDEX {long} ON {full} (note)"
    );
    (chunk, sql)
}

/// Looks at a chunk of `metrics`, its indexes, its TOAST, and what was compressed of it.
async fn look(
    server: &crate::cluster::Server,
    database: &blameio_databases::Database,
    sql: &Client,
    id: u32,
    packed: &str,
) {
    let (part, metrics) = (format!("_hyper_1_{id}_chunk"), "public.metrics");
    let long = "a_name_of_an_index_that_is_too_long_to_follow_that_of_a_chunk";
    let toast = |table: &str| format!("(SELECT reltoastrelid FROM pg_class WHERE relname = '{table}')");
    let mut asked = Vec::new();
    for (relation, expected) in [
        (format!("'_timescaledb_internal.{part}'"), name(metrics, "", &part, FileKind::Heap)),
        (toast(&part), name(metrics, "", &part, FileKind::Toast)),
        (
            format!("'_timescaledb_internal.\"{id}_7_metrics_pkey\"'"),
            name(metrics, "metrics_pkey", &part, FileKind::Index),
        ),
        (
            format!("'_timescaledb_internal.{part}_metrics_device_idx'"),
            name(metrics, "metrics_device_idx", &part, FileKind::Index),
        ),
        (
            format!("'_timescaledb_internal.{part}_a_name_of_an_index_that_is_too_long_to_follow_t'"),
            name(metrics, long, &part, FileKind::Index),
        ),
        // By its definition, though the dropped column gave its table's columns other numbers.
        (
            format!("'_timescaledb_internal.by_hand_{id}'"),
            name(metrics, "metrics_value_idx", &part, FileKind::Index),
        ),
        (
            format!("'_timescaledb_internal.only_here_{id}'"),
            name(metrics, &format!("only_here_{id}"), &part, FileKind::Index),
        ),
        (format!("'_timescaledb_internal.{packed}'"), name(metrics, "", &part, FileKind::Heap)),
        (toast(packed), name(metrics, "", &part, FileKind::Toast)),
        (
            format!("'_timescaledb_internal.{packed}_device_idx'"),
            name(metrics, &format!("{packed}_device_idx"), &part, FileKind::Index),
        ),
    ] {
        let path = tail(server, sql, &relation).await;
        database.catalog().resolve(&path);
        asked.push((relation, path, expected));
    }
    for (relation, path, expected) in asked {
        assert_eq!(name_of(database, &path).await, expected, "{relation}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_named_by_their_hypertable_in_every_shape_of_its_catalog() {
    let Some(cluster) = Cluster::start("chunks_are_named_by_their_hypertable") else { return };
    let admin = cluster.primary.sql("postgres").await;
    admin.batch_execute("CREATE ROLE blameio LOGIN").await.unwrap();
    for shape in SHAPES {
        admin.batch_execute(&format!("CREATE DATABASE {}", shape.name)).await.unwrap();
        let sql = cluster.primary.sql(shape.name).await;
        let (first, made) = chunk(1);
        let (packed, compressed) = shape.compress(1, &first);
        run(&sql, &format!("{CATALOG};{TABLES};{}", shape.tables)).await;
        if !shape.relid {
            run(&sql, INTERNAL).await;
        }
        run(&sql, &format!("{made};{}", shape.chunk(1, 1, "_timescaledb_internal", &first))).await;
        run(&sql, &shape.chunk(5, 4, "_timescaledb_internal", "_hyper_4_5_chunk")).await;
        run(
            &sql,
            &format!(
                "CREATE TABLE elsewhere.far () INHERITS (metrics);{}",
                shape.chunk(6, 1, "elsewhere", "far")
            ),
        )
        .await;
        let index = format!("CREATE INDEX {packed}_device_idx ON _timescaledb_internal.{packed} (device)");
        run(
            &sql,
            &format!(
                "{compressed};{index};GRANT SELECT ON ALL TABLES IN SCHEMA _timescaledb_catalog TO PUBLIC"
            ),
        )
        .await;
    }
    let shut = cluster.primary.sql("of_2_11").await;
    run(&shut, "CREATE TABLE plain (id int); REVOKE ALL ON _timescaledb_catalog.hypertable FROM PUBLIC")
        .await;
    let watched = cluster.primary.watch(None).await;
    let database = &watched.database;
    for shape in SHAPES {
        let sql = cluster.primary.sql(shape.name).await;
        let (first, _) = chunk(1);
        look(&cluster.primary, database, &sql, 1, &shape.compress(1, &first).0).await;
        let aggregate = "_timescaledb_internal._hyper_4_5_chunk";
        let bucket = "_materialized_hypertable_4_bucket_idx";
        for (relation, expected) in [
            ("'metrics'", name("public.metrics", "", "", FileKind::Heap)),
            ("'elsewhere.far'", name("public.metrics", "", "far", FileKind::Heap)),
            // Not a chunk of any hypertable that there is: a table of its own.
            ("'metrics_archive'", name("public.metrics_archive", "", "", FileKind::Heap)),
            (&format!("'{aggregate}'"), name("reporting.daily", "", "_hyper_4_5_chunk", FileKind::Heap)),
            (
                &format!("'{aggregate}__materialized_hypertable_4_bucket_idx'"),
                name("reporting.daily", bucket, "_hyper_4_5_chunk", FileKind::Index),
            ),
        ] {
            let path = tail(&cluster.primary, &sql, relation).await;
            assert_eq!(name_of(database, &path).await, expected, "{relation} of {}", shape.name);
        }

        // What is made while the agent runs is looked up with what belongs to it.
        let (second, made) = chunk(2);
        let (packed, compressed) = shape.compress(2, &second);
        run(&sql, &format!("{made};{}", shape.chunk(2, 1, "_timescaledb_internal", &second))).await;
        let index = format!("CREATE INDEX {packed}_device_idx ON _timescaledb_internal.{packed} (device)");
        run(&sql, &format!("{compressed};{index}")).await;
        look(&cluster.primary, database, &sql, 2, &packed).await;
    }
    let path = tail(&cluster.primary, &shut, "'_timescaledb_internal._hyper_1_1_chunk'").await;
    let object = resolved(database, &path).await;
    assert_eq!((&*object.namespace, &*object.database), ("of_2_11|public", "of_2_11"));
    watched.extension.shutdown().await;

    // A catalog that may not be read costs what it would have told, and nothing else.
    let dsn = Some(cluster.primary.dsn("blameio"));
    let watched = watch(DatabaseSettings { dsn, ..DatabaseSettings::default() }).await;
    let plain = tail(&cluster.primary, &shut, "'plain'").await;
    assert_eq!(name_of(&watched.database, &plain).await, name("public.plain", "", "", FileKind::Heap));
    let by_inheritance = name("public.metrics", "", "_hyper_1_1_chunk", FileKind::Heap);
    assert_eq!(name_of(&watched.database, &path).await, by_inheritance);
    watched.extension.shutdown().await;
}

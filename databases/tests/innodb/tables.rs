//! Tables of every kind that lays its pages out in its own way.

use super::server::Server;

/// 131,072 numbers, made in a way that both servers know.
fn numbers(server: &Server) {
    let mut sql = "USE test; CREATE TABLE n (i INT PRIMARY KEY); INSERT INTO n VALUES (0);".to_owned();
    for doubling in 0..17 {
        sql += &format!("INSERT INTO n SELECT i + {} FROM n;", 1 << doubling);
    }
    server.sql(&sql);
}

/// A table with eight secondary indexes, filled in random order.
fn wide(server: &Server, name: &str, rows: u32, options: &str) {
    server.sql(&format!(
        "USE test; CREATE TABLE {name} (id INT PRIMARY KEY, a INT, b INT, c BIGINT, d VARCHAR(60), e VARCHAR(60), f DOUBLE,
           UNIQUE (id, a), KEY (a), KEY (b), KEY (c), KEY (d), KEY (e, a), KEY (f), KEY (a, b, c)) {options};
         INSERT INTO {name} SELECT i, RAND() * 1e9, RAND() * 1e9, RAND() * 1e15, LEFT(SHA2(RAND(), 256), 32), LEFT(SHA2(RAND(), 256), 40), RAND()
           FROM n WHERE i < {rows} ORDER BY RAND();"
    ));
}

/// Long values, some in the row, most on pages of their own.
fn long(server: &Server, name: &str, rows: u32, options: &str) {
    server.sql(&format!(
        "USE test; CREATE TABLE {name} (id INT PRIMARY KEY, a INT, t MEDIUMTEXT, b LONGBLOB, KEY (a), KEY (t(40))) {options};
         INSERT INTO {name} SELECT i, RAND() * 1e9, REPEAT(LEFT(SHA2(RAND(), 256), 32), RAND() * 4000), REPEAT(LEFT(SHA2(RAND(), 256), 40), RAND() * 1500)
           FROM n WHERE i < {rows};"
    ));
}

/// Rows and indexes that went: free pages, and extents that changed hands.
fn churned(server: &Server, name: &str, rows: u32) {
    wide(server, name, rows, "");
    server.sql(&format!(
        "USE test; DELETE FROM {name} WHERE id % 8 > 1; ALTER TABLE {name} DROP INDEX a, DROP INDEX d;
         ALTER TABLE {name} ADD INDEX d2 (d, b), ADD INDEX z (f, c); DELETE FROM {name} WHERE id < {rows} / 2;
         INSERT INTO {name} SELECT i + 1000000, i, RAND() * 1e9, i, LEFT(SHA2(i, 256), 32), LEFT(SHA2(i, 256), 32), i FROM n WHERE i < {rows};"
    ));
}

fn special(server: &Server) {
    server.sql(
        "USE test; CREATE TABLE one (id INT PRIMARY KEY, a INT, KEY (a)); INSERT INTO one VALUES (1, 2);
         CREATE TABLE nothing (a INT, b INT);
         CREATE TABLE keyless (a INT, b VARCHAR(40), KEY (b));
         INSERT INTO keyless SELECT i, LEFT(SHA2(i, 256), 32) FROM n;
         CREATE TABLE texts (id INT PRIMARY KEY, a INT, t TEXT, KEY (a), FULLTEXT (t));
         INSERT INTO texts SELECT i, i, CONCAT_WS(' ', 'word', LEFT(SHA2(i, 256), 32), LEFT(SHA2(i % 100, 256), 32), 'other') FROM n WHERE i < 8000;
         CREATE TABLE shapes (id INT PRIMARY KEY, a INT, p POINT NOT NULL, KEY (a), SPATIAL INDEX (p));
         INSERT INTO shapes SELECT i, i, POINT(RAND() * 1000, RAND() * 1000) FROM n WHERE i < 20000;
         CREATE TABLE part (id INT, a INT, b VARCHAR(40), PRIMARY KEY (id), KEY (a), KEY (b)) PARTITION BY HASH (id) PARTITIONS 4;
         INSERT INTO part SELECT i, RAND() * 1e9, LEFT(SHA2(i, 256), 32) FROM n;
         CREATE TABLE sub (id INT, y INT, a INT, KEY (a), PRIMARY KEY (id, y)) PARTITION BY RANGE (y) SUBPARTITION BY HASH (id)
           SUBPARTITIONS 2 (PARTITION small VALUES LESS THAN (1000), PARTITION big VALUES LESS THAN MAXVALUE);
         INSERT INTO sub SELECT i, i, RAND() * 1e9 FROM n WHERE i < 30000;
         CREATE TABLE instant (id INT PRIMARY KEY, a INT, b VARCHAR(40), KEY (a), KEY (b));
         INSERT INTO instant SELECT i, RAND() * 1e9, LEFT(SHA2(i, 256), 32) FROM n WHERE i < 30000;
         ALTER TABLE instant ADD COLUMN c INT DEFAULT 7, ALGORITHM=INSTANT;
         INSERT INTO instant SELECT i + 1000000, RAND() * 1e9, LEFT(SHA2(i, 256), 32), i FROM n WHERE i < 30000;
         ALTER TABLE instant ADD COLUMN d INT FIRST, ALGORITHM=INSTANT;
         UPDATE instant SET d = id WHERE id % 3 = 0;",
    );
}

/// What both servers know, with pages of 16 KiB.
fn both(server: &Server) {
    numbers(server);
    special(server);
    wide(server, "big", 131_072, "ROW_FORMAT=DYNAMIC");
    wide(server, "compact", 20_000, "ROW_FORMAT=COMPACT");
    wide(server, "redundant", 20_000, "ROW_FORMAT=REDUNDANT");
    for size in [1, 2, 4, 8, 16] {
        let options = format!("ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE={size}");
        wide(
            server,
            &format!("zip{size}"),
            match size {
                1 | 2 => 20_000,
                8 => 131_072,
                _ => 60_000,
            },
            &options,
        );
    }
    long(server, "longs", 600, "");
    long(server, "long_compact", 100, "ROW_FORMAT=COMPACT");
    long(server, "long_zip", 400, "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8");
    churned(server, "churned", 60_000);
    // Beyond the first page of descriptors: 256 MiB of long values, and then rows.
    wide(server, "huge", 1000, "");
    server.sql(
        "USE test; ALTER TABLE huge ADD COLUMN l LONGBLOB;
         INSERT INTO huge (id, a, l) SELECT i + 1000, i, REPEAT('x', 1000000) FROM n WHERE i < 280;
         INSERT INTO huge SELECT i + 10000, RAND() * 1e9, RAND() * 1e9, RAND() * 1e15, LEFT(SHA2(RAND(), 256), 32), LEFT(SHA2(RAND(), 256), 40), RAND(), 'y'
           FROM n WHERE i < 60000 ORDER BY RAND();",
    );
}

/// MariaDB, pages of 16 KiB.
pub(crate) fn all(server: &Server) {
    both(server);
    sealed(server);
}

/// MariaDB, pages of 16 KiB: what the older format has flags of its own for.
pub(crate) fn older(server: &Server) {
    several(server);
    for size in [4, 8] {
        wide(server, &format!("zip{size}"), 20_000, &format!("ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE={size}"));
    }
    sealed(server);
}

fn sealed(server: &Server) {
    wide(server, "sealed_compressed", 20_000, "PAGE_COMPRESSED=1");
    if server.encrypts {
        wide(server, "sealed_encrypted", 20_000, "ENCRYPTED=YES");
        wide(server, "sealed_both", 20_000, "ENCRYPTED=YES PAGE_COMPRESSED=1");
        wide(server, "sealed_zip", 20_000, "ENCRYPTED=YES ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8");
    } else {
        eprintln!("encrypted tables are not compared: the server has no file_key_management");
    }
}

/// MariaDB, pages of any size.
pub(crate) fn several(server: &Server) {
    numbers(server);
    special(server);
    wide(server, "big", 60_000, "");
    long(server, "longs", 300, "");
    churned(server, "churned", 20_000);
}

pub(crate) fn mysql(server: &Server) {
    both(server);
    server.sql("USE test; CREATE TABLESPACE shared ADD DATAFILE 'shared.ibd';");
    wide(server, "first", 20_000, "TABLESPACE shared");
    wide(server, "second", 20_000, "TABLESPACE shared");
    long(server, "third", 100, "TABLESPACE shared");
    wide(server, "sealed_compressed", 20_000, "COMPRESSION='zlib'");
}

pub(crate) fn is_sealed(name: &str) -> bool {
    name.contains("sealed")
}

/// A table for rows to come in, and what brings them.
pub(crate) const LIVE: &str =
    "USE test; CREATE TABLE live (id INT AUTO_INCREMENT PRIMARY KEY, a INT, b VARCHAR(40),
  c VARCHAR(200), t TEXT, KEY (a), KEY (b), KEY (c, a), KEY (t(20)));
CREATE TABLE m (i INT PRIMARY KEY); INSERT INTO m VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10);
DELIMITER //
CREATE PROCEDURE bring(n INT) BEGIN
  WHILE n > 0 DO
    INSERT INTO live (a, b, c, t)
      SELECT RAND() * 1e9, LEFT(SHA2(RAND(), 256), 32), REPEAT(SHA2(RAND(), 256), 3),
        REPEAT(SHA2(RAND(), 256), IF(RAND() < 0.02, 300, 3)) FROM m x, m y;
    SET n = n - 1;
  END WHILE;
END//
CREATE PROCEDURE churn() BEGIN
  DECLARE n INT DEFAULT 0;
  WHILE n < 1000 DO
    CALL bring(60);
    DELETE FROM live WHERE id % 5 > 2;
    ALTER TABLE live DROP INDEX a;
    ALTER TABLE live ADD INDEX a (a);
    SET n = n + 1;
  END WHILE;
END//
";
pub(crate) const INSERTS: &str = "USE test; CALL bring(100000);\n";
pub(crate) const CHURN: &str = "USE test; CALL churn();\n";

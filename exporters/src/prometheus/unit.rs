//! What a UCUM unit adds to a metric's name: `s` → `seconds`, `By/s` → `bytes` and `per_second`.
//!
//! The table is the one of the OpenTelemetry specification (compatibility with Prometheus). Values are never
//! scaled.

const MAIN: &[(&str, &str)] = &[
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];

const PER: &[(&str, &str)] = &[
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

/// The words for a unit: before and after the slash. Either is empty when there is nothing to add.
pub(super) fn words(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    (word(main, MAIN), word(per, PER))
}

fn word(unit: &str, table: &[(&str, &str)]) -> String {
    let unit = unit.trim();
    // An annotation such as {operation} is a remark, not a unit.
    if unit.contains(['{', '}']) {
        return String::new();
    }
    let word = table.iter().find(|(ucum, _)| *ucum == unit).map_or(unit, |(_, word)| word);
    let parts: Vec<_> =
        word.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect();
    parts.join("_")
}

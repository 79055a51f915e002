//! The help that follows a misspelt name: the nearest known one, or all of them.

/// `did you mean "y"?` if a known name is near, else the list of known names; `None` if there are none.
pub fn suggestion<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    let distance = |name: &str| strsim::damerau_levenshtein(&wrong.to_lowercase(), &name.to_lowercase());
    let nearest = known.iter().map(|name| (distance(name), *name)).min();
    // A third of the name may be wrong: more than that proposes unrelated keys.
    let near = |(distance, name): &(usize, &str)| *distance <= (name.chars().count() / 3).max(1);
    match nearest.filter(near) {
        Some((_, name)) => Some(format!("did you mean \"{name}\"?")),
        None if known.is_empty() => None,
        None => Some(format!("valid: {}", known.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::suggestion;

    #[test]
    fn the_nearest_name_is_proposed_and_otherwise_all_of_them() {
        let known = ["compression", "endpoint", "timeout"];
        assert_eq!(suggestion("compresion", known).as_deref(), Some("did you mean \"compression\"?"));
        assert_eq!(suggestion("Timeout", known).as_deref(), Some("did you mean \"timeout\"?"));
        assert_eq!(suggestion("colour", known).as_deref(), Some("valid: compression, endpoint, timeout"));
        assert_eq!(suggestion("x", []), None);
    }
}

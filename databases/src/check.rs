//! What an inspection of a server found, for the operator to read. It carries no secret.

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at and what came of it.
    pub what: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// The exact SQL, configuration line or command that mends it.
    pub remedy: Option<String>,
}

impl Finding {
    /// Something that is as it should be.
    pub fn good(what: impl Into<String>) -> Self {
        Self { what: what.into(), ok: true, remedy: None }
    }

    /// Something that is missing, and what mends it.
    pub fn missing(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), ok: false, remedy: Some(remedy.into()) }
    }
}

//! What a demo injects, and on which engine.

use clap::ValueEnum;

use crate::lab::Throttle;

/// A database server that the laboratory can be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Engine {
    /// PostgreSQL, streaming
    Postgresql,
    /// MariaDB, row events and one applier
    Mariadb,
}

/// What stands in the replica's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Scenario {
    /// An index that replay changes does not fit into memory, and the disk is slow (root; the default)
    ColdIndex,
    /// A session on the replica holds a lock that replay needs: of PostgreSQL a table's, of MariaDB a row's
    Lock,
    /// Queries on the replica read another table and keep the disk busy (root; PostgreSQL only)
    Rival,
}

impl Engine {
    /// Name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Postgresql => "PostgreSQL",
            Self::Mariadb => "MariaDB",
        }
    }

    fn scenarios(self) -> &'static [Scenario] {
        match self {
            Self::Postgresql => &[Scenario::ColdIndex, Scenario::Lock, Scenario::Rival],
            Self::Mariadb => &[Scenario::ColdIndex, Scenario::Lock],
        }
    }
}

impl Scenario {
    /// Whether it needs a disk that can be slowed down.
    pub(super) fn is_slow(self) -> bool {
        self != Self::Lock
    }

    /// What was asked for, or what can be shown on this host; with an error, nothing can be.
    pub(super) fn choose(asked: Option<Self>, engine: Engine, say: impl Fn(String)) -> Result<Self, String> {
        let name = |scenario: Self| {
            scenario.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
        };
        let there = engine.scenarios();
        if let Some(scenario) = asked.filter(|scenario| !there.contains(scenario)) {
            let there: Vec<_> = there.iter().map(|scenario| name(*scenario)).collect();
            let (scenario, engine) = (name(scenario), engine.name());
            return Err(format!("no scenario {scenario} with {engine}; there are {}", there.join(", ")));
        }
        let chosen = asked.unwrap_or(Self::ColdIndex);
        if !chosen.is_slow() {
            return Ok(chosen);
        }
        match (Throttle::support(), asked) {
            (Ok(how), _) => {
                say(format!("slow disk: a loop device, its reads limited by {how}"));
                Ok(chosen)
            }
            (Err(reason), None) => {
                say(format!(
                    "slow disk: not on this host ({reason}); a held lock stands in replay's way instead"
                ));
                Ok(Self::Lock)
            }
            (Err(reason), Some(_)) => {
                Err(format!("{} needs a slow disk, which is not on this host: {reason}", name(chosen)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_that_an_engine_has_not_is_refused_with_those_that_it_has() {
        let chosen = |asked, engine| Scenario::choose(asked, engine, drop);
        let error = chosen(Some(Scenario::Rival), Engine::Mariadb).unwrap_err();
        assert_eq!(error, "no scenario rival with MariaDB; there are cold-index, lock");
        for engine in [Engine::Postgresql, Engine::Mariadb] {
            assert_eq!(chosen(Some(Scenario::Lock), engine), Ok(Scenario::Lock));
            assert!(chosen(None, engine).is_ok_and(|scenario| scenario != Scenario::Rival));
        }
    }
}

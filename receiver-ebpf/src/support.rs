//! What of the probes works on this machine, found by trying, for the operator to read. Leaves nothing loaded.

use crate::capabilities;
use crate::limits::Limits;
use crate::namespace;
use crate::object;

/// One thing that is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Support {
    /// What.
    pub name: String,
    /// Whether it is there.
    pub ok: bool,
    /// Whether the probes do without it, and see less.
    pub optional: bool,
    /// What was found, or what to do.
    pub detail: String,
}

impl Support {
    fn new(name: impl Into<String>, ok: bool, detail: impl Into<String>) -> Self {
        Self { name: name.into(), ok, optional: false, detail: detail.into() }
    }
}

/// Tries everything that [`Probes::load`](crate::Probes::load) does except attaching, each part by itself.
#[must_use]
pub fn probe_support() -> Vec<Support> {
    let mut found = Vec::with_capacity(24);
    let missing = capabilities::missing();
    found.push(if missing.is_empty() {
        Support::new("capabilities", true, "CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN")
    } else {
        Support::new("capabilities", false, format!("missing: {}", missing.join(", ")))
    });
    found.push(match namespace::require_initial() {
        Ok(()) => Support::new("pid namespace", true, "the initial one"),
        Err(error) => Support::new("pid namespace", false, error.to_string()),
    });
    let types = match object::kernel_types() {
        Ok(types) => types,
        Err(error) => {
            found.push(Support::new("kernel type information", false, error.to_string()));
            return found;
        }
    };
    found.push(Support::new("kernel type information", true, "/sys/kernel/btf/vmlinux"));
    let mut object = match object::load(&Limits::default(), &types) {
        Ok(object) => object,
        Err(error) => {
            found.push(Support::new("maps", false, error.to_string()));
            return found;
        }
    };
    found.push(Support::new("maps", true, "made"));
    for group in object::groups(&types) {
        for (program, tracepoint) in group.programs {
            let name = format!("program {program}");
            let part = match object::load_program(&mut object, &types, program, tracepoint) {
                Ok(()) => Support::new(name, true, format!("loads for tp_btf/{tracepoint}")),
                Err(error) if group.optional() => {
                    Support::new(name, false, format!("{}: {error}", group.unseen))
                }
                Err(error) => Support::new(name, false, error.to_string()),
            };
            found.push(Support { optional: group.optional(), ..part });
        }
    }
    found
}

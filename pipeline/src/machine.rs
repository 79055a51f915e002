//! Who this host is. Knows nothing of the servers on it.

use std::{fs, sync::OnceLock};

use blameio_config::ComponentId;
use opentelemetry_proto::tonic::resource::v1::Resource;
use uuid::Uuid;

use crate::{
    attribute::{HOST_ID, HOST_NAME, SERVICE_INSTANCE_ID, SERVICE_NAME},
    metrics::key_value,
};

/// Name space of the instance ids of who tells of a host. Made once, at random; it must never change.
const NAMESPACE: Uuid = Uuid::from_u128(0xd1c4_6f0b_37a2_4b58_a4e9_0c85_7e21_93bd);

/// The name of this host.
pub fn host_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned())
}

/// The id of this host, where it has one.
pub fn host_id() -> Option<&'static str> {
    static ID: OnceLock<Option<String>> = OnceLock::new();
    ID.get_or_init(|| {
        ["/etc/machine-id", "/var/lib/dbus/machine-id"]
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok())
            .map(|id| id.trim().to_owned())
            .find(|id| !id.is_empty())
    })
    .as_deref()
}

/// The resource of what is the host's and no server's, as a component tells it: one series for each host and component,
/// whatever restarts.
pub fn host_resource(component: &ComponentId) -> Resource {
    let mut attributes = vec![
        key_value(SERVICE_NAME, "blameio"),
        key_value(SERVICE_INSTANCE_ID, instance(host_id().unwrap_or_else(host_name), component).to_string()),
        key_value(HOST_NAME, host_name()),
    ];
    attributes.extend(host_id().map(|id| key_value(HOST_ID, id)));
    Resource { attributes, ..Resource::default() }
}

fn instance(host: &str, component: &ComponentId) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{host}/{component}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::attribute;

    fn id(component: &str) -> ComponentId {
        component.parse().unwrap()
    }

    #[test]
    fn hosts_and_components_have_series_of_their_own() {
        assert_ne!(instance("a", &id("file_io")), instance("b", &id("file_io")));
        assert_ne!(instance("a", &id("file_io")), instance("a", &id("file_io/b")));
        assert_eq!(instance("a", &id("file_io")), instance("a", &id("file_io")));
    }

    #[test]
    fn the_hosts_resource_tells_who_it_is_and_is_no_server() {
        let attributes = host_resource(&id("file_io")).attributes;
        let instance: Uuid = attribute(&attributes, SERVICE_INSTANCE_ID).unwrap().parse().unwrap();
        assert_eq!(instance.get_version_num(), 5);
        assert!(attribute(&attributes, HOST_NAME).is_some_and(|name| !name.is_empty()));
        assert_eq!(attribute(&attributes, crate::attribute::DB_SYSTEM_NAME), None);
    }
}

//! The labels of a series: its attributes translated, with `job` and `instance` from the resource.
//!
//! Resource attributes other than those identities do not become labels; they are in `target_info`.

use std::{collections::BTreeMap, sync::Arc};

use blameio_pipeline::attribute::{SERVICE_INSTANCE_ID, SERVICE_NAME};
use opentelemetry_proto::tonic::{common::v1::KeyValue, resource::v1::Resource};

use super::name;
use crate::value;

const SERVICE_NAMESPACE: &str = "service.namespace";
const JOB: &str = "job";
const INSTANCE: &str = "instance";

/// Labels by name, so that two sets with the same content are equal.
pub(super) type Labels = Arc<[(String, String)]>;

/// What a resource gives to its series.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    /// `job` and `instance`, or nothing where they are not wanted or not known.
    identity: Vec<(String, String)>,
    /// Labels of `target_info`: the identity and the resource's other attributes; empty for no `target_info`.
    pub(super) info: Vec<(String, String)>,
}

impl Target {
    /// Reads a resource. Without `own` its series get no `job` and `instance`, and all of its attributes go
    /// into `target_info`.
    pub(super) fn new(resource: Option<&Resource>, own: bool) -> Arc<Self> {
        let attributes = resource.map_or(&[][..], |resource| &resource.attributes);
        let text = |key: &str| {
            let found = attributes.iter().find(|attribute| attribute.key == key)?;
            Some(value::text(found.value.as_ref())).filter(|text| !text.is_empty())
        };
        if !own {
            return Arc::new(Self {
                identity: Vec::new(),
                info: translate(attributes).into_iter().collect(),
            });
        }
        let job = text(SERVICE_NAME).map(|name| match text(SERVICE_NAMESPACE) {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name,
        });
        let identity: Vec<_> = [(INSTANCE, text(SERVICE_INSTANCE_ID)), (JOB, job)]
            .into_iter()
            .filter_map(|(label, value)| Some((label.to_owned(), value?)))
            .collect();
        let others: Vec<_> = attributes
            .iter()
            .filter(|attribute| {
                ![SERVICE_NAME, SERVICE_NAMESPACE, SERVICE_INSTANCE_ID].contains(&attribute.key.as_str())
            })
            .cloned()
            .collect();
        let mut info = translate(&others);
        // Without an identity nothing could be joined with it; with it alone it would say nothing.
        if info.is_empty() || identity.is_empty() {
            info.clear();
        } else {
            info.extend(identity.iter().cloned());
        }
        Arc::new(Self { identity, info: info.into_iter().collect() })
    }

    /// The labels of a point of this resource.
    pub(super) fn labels(&self, attributes: &[KeyValue]) -> Labels {
        let mut labels = translate(attributes);
        labels.extend(self.identity.iter().cloned());
        labels.into_iter().collect()
    }
}

/// Keys that become the same label are joined by `;` in the order of the keys.
fn translate(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let mut sorted: Vec<_> = attributes.iter().filter(|attribute| !attribute.key.is_empty()).collect();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for attribute in sorted {
        let text = value::text(attribute.value.as_ref());
        labels
            .entry(name::label(&attribute.key))
            .and_modify(|joined| {
                joined.push(';');
                joined.push_str(&text);
            })
            .or_insert(text);
    }
    labels
}

#[cfg(test)]
mod tests {
    use blameio_pipeline::metrics::key_value;

    use super::*;

    fn resource(attributes: Vec<KeyValue>) -> Resource {
        Resource { attributes, ..Resource::default() }
    }

    #[test]
    fn colliding_attributes_are_joined_in_the_order_of_their_keys() {
        let target = Target::new(None, true);
        let labels =
            target.labels(&[key_value("a.b", "second"), key_value("a-b", "first"), key_value("n", 7)]);
        assert_eq!(
            *labels,
            [("a_b".to_owned(), "first;second".to_owned()), ("n".to_owned(), "7".to_owned())]
        );
    }

    #[test]
    fn job_and_instance_come_from_the_resource_and_win() {
        let resource = resource(vec![
            key_value("service.name", "orders"),
            key_value("service.namespace", "shop"),
            key_value("service.instance.id", "i1"),
            key_value("host.name", "db7"),
        ]);
        let target = Target::new(Some(&resource), true);
        let labels = target.labels(&[key_value("job", "mine")]);
        assert_eq!(
            *labels,
            [("instance".to_owned(), "i1".to_owned()), ("job".to_owned(), "shop/orders".to_owned())]
        );
        assert_eq!(target.info[0], ("host_name".to_owned(), "db7".to_owned()));
        assert_eq!(target.info.len(), 3);
    }

    #[test]
    fn a_resource_without_identity_or_without_more_has_no_target_info() {
        assert!(Target::new(Some(&resource(vec![key_value("host.name", "db7")])), true).info.is_empty());
        assert!(Target::new(Some(&resource(vec![key_value("service.name", "a")])), true).info.is_empty());
        assert_eq!(Target::new(Some(&resource(vec![key_value("service.name", "a")])), false).info.len(), 1);
    }
}

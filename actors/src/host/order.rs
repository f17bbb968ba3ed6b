//! From dependencies to a start order. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thiserror::Error;

use crate::config::suggest::nearest;

use super::HostConfig;

/// Why there is no order.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OrderError {
    /// A service depends on one that does not exist.
    #[error("service {service} depends on {dependency}, which does not exist{}",
        nearest.as_ref().map(|n| format!("; did you mean {n}?")).unwrap_or_default())]
    UnknownDependency {
        /// The service.
        service: Arc<str>,
        /// What it names.
        dependency: Arc<str>,
        /// The most similar service.
        nearest: Option<Arc<str>>,
    },
    /// A service names a supervisor that does not exist.
    #[error("service {service} belongs to supervisor {supervisor}, which does not exist")]
    UnknownSupervisor {
        /// The service.
        service: Arc<str>,
        /// What it names.
        supervisor: Arc<str>,
    },
    /// Services, or the supervisors they are in, wait for each other.
    #[error("these depend on each other: {}", names.join(", "))]
    Cycle {
        /// All that are in a circle or behind one.
        names: Vec<Arc<str>>,
    },
}

/// A child of the root.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Service(Arc<str>),
    Supervisor { name: Arc<str>, members: Vec<Arc<str>> },
}

type Graph = BTreeMap<Arc<str>, BTreeSet<Arc<str>>>;

/// The root's children in start order, and the members of its supervisors in theirs.
pub(crate) fn order(config: &HostConfig) -> Result<Vec<Node>, OrderError> {
    check(config)?;
    let place = |service: &Arc<str>| -> Arc<str> {
        match config.services.get(service).and_then(|s| s.supervisor.clone()) {
            // Apart from service names: the two may share one.
            Some(supervisor) => format!("supervisor {supervisor}").into(),
            None => Arc::clone(service),
        }
    };
    let mut top = Graph::new();
    let mut inner: BTreeMap<Arc<str>, Graph> = BTreeMap::new();
    for (name, service) in &config.services {
        let mine = place(name);
        let waits = top.entry(Arc::clone(&mine)).or_default();
        let own = inner.entry(Arc::clone(&mine)).or_default().entry(Arc::clone(name)).or_default();
        for dependency in &service.depends_on {
            let theirs = place(dependency);
            if theirs == mine {
                own.insert(Arc::clone(dependency));
            } else {
                waits.insert(theirs);
            }
        }
    }
    let mut nodes = Vec::new();
    for place in sort(&top)? {
        let members = sort(inner.get(&place).unwrap_or(&Graph::new()))?;
        nodes.push(match place.strip_prefix("supervisor ") {
            Some(name) => Node::Supervisor { name: name.into(), members },
            None => Node::Service(place),
        });
    }
    Ok(nodes)
}

fn check(config: &HostConfig) -> Result<(), OrderError> {
    for (name, service) in &config.services {
        for dependency in &service.depends_on {
            if !config.services.contains_key(dependency) {
                let known = config.services.keys().map(|name| &**name);
                return Err(OrderError::UnknownDependency {
                    service: Arc::clone(name),
                    dependency: Arc::clone(dependency),
                    nearest: nearest(dependency, known).map(Arc::from),
                });
            }
        }
        if let Some(supervisor) = &service.supervisor
            && !config.supervisors.contains_key(supervisor)
        {
            let (service, supervisor) = (Arc::clone(name), Arc::clone(supervisor));
            return Err(OrderError::UnknownSupervisor { service, supervisor });
        }
    }
    Ok(())
}

/// Dependencies first, else by name. Source: Kahn 1962.
fn sort(graph: &Graph) -> Result<Vec<Arc<str>>, OrderError> {
    let mut left = graph.clone();
    let mut sorted: Vec<Arc<str>> = Vec::new();
    while !left.is_empty() {
        let ready = left.iter().find(|(_, waits)| waits.iter().all(|wait| sorted.contains(wait)));
        let Some(name) = ready.map(|(name, _)| Arc::clone(name)) else {
            return Err(OrderError::Cycle { names: left.into_keys().collect() });
        };
        left.remove(&name);
        sorted.push(name);
    }
    Ok(sorted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> HostConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn dependencies_start_first_also_across_supervisors() {
        let nodes = order(&config(
            "[supervisors.back]\n\
             [services.a]\ndepends-on = ['c']\n\
             [services.b]\nsupervisor = 'back'\ndepends-on = ['c']\n\
             [services.c]\nsupervisor = 'back'\n\
             [services.d]\ndepends-on = ['a']\n",
        ));
        let back = Node::Supervisor { name: "back".into(), members: vec!["c".into(), "b".into()] };
        let expected = vec![back, Node::Service("a".into()), Node::Service("d".into())];
        assert_eq!(nodes.unwrap(), expected);
    }

    #[test]
    fn a_circle_and_unknown_names_are_refused_by_name() {
        let circle =
            order(&config("[services.a]\ndepends-on = ['b']\n[services.b]\ndepends-on = ['a']\n"));
        assert_eq!(circle.unwrap_err().to_string(), "these depend on each other: a, b");
        let unknown = order(&config("[services.store]\n[services.a]\ndepends-on = ['stoer']\n"));
        let said = "service a depends on stoer, which does not exist; did you mean store?";
        assert_eq!(unknown.unwrap_err().to_string(), said);
        let supervisor = order(&config("[services.a]\nsupervisor = 'x'\n"));
        assert!(matches!(supervisor, Err(OrderError::UnknownSupervisor { .. })));
    }
}

//! How many replicas of a firmware there are.

use odeum_proto::{Name, ReplicaId, chronicle::What, store::Command};

use super::NodeFacade;
use crate::api::{Problem, types::Scaled};

impl NodeFacade {
    /// How many replicas there are by now; one of what is not deployed yet.
    pub(super) fn replicas(&self, name: &Name) -> u32 {
        self.store.view(|state| state.firmware().get(name).map_or(1, |spec| spec.replicas))
    }

    /// Those that are meant by a name, with a number or without.
    pub(super) fn meant(&self, of: &odeum_proto::Recipient) -> Result<Vec<ReplicaId>, Problem> {
        let name = of.firmware();
        match of.replica() {
            None => {
                self.check_deployed(name)?;
                Ok(ReplicaId::all(name, self.replicas(name)).collect())
            }
            Some(replica) => self.check_replica(&replica).map(|()| vec![replica]),
        }
    }

    /// Refuses a replica that there is not.
    pub(super) fn check_replica(&self, replica: &ReplicaId) -> Result<(), Problem> {
        let (name, number) = (replica.firmware(), replica.number());
        self.check_deployed(name)?;
        let replicas = self.replicas(name);
        if number <= replicas {
            return Ok(());
        }
        let what = format!("replica {name}.{number}: {name} has {replicas} of them");
        Err(Problem::NotFound { what: what.into() })
    }

    pub(super) async fn scale(&self, name: Name, replicas: u32) -> Result<Scaled, Problem> {
        self.fresh().await?;
        self.check_deployed(&name)?;
        let from = self.replicas(&name);
        self.write(Command::Scale { name: name.clone(), replicas }).await?;
        self.fresh().await?;
        if from != replicas {
            self.happened(&ReplicaId::first(name.clone()), None, What::Scaled { replicas });
        }
        Ok(Scaled { name, from, to: replicas })
    }
}

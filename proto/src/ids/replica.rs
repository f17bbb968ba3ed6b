//! The replicas of a firmware: what each is called, and how a caller names one or any of them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{EntityId, EntityKey, EntityKind, IdError, Name};
use crate::limits;

/// One replica of a firmware, counted from 1. The first has the firmware's own name, `counter`; the
/// others have their number behind it, `counter.2`, which is no name that anything can be deployed
/// under.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReplicaId {
    firmware: Name,
    number: u32,
}

impl ReplicaId {
    /// The first one, which there always is.
    #[must_use]
    pub fn first(firmware: Name) -> Self {
        Self { firmware, number: 1 }
    }

    /// The one of that number; `None` when no firmware has so many.
    #[must_use]
    pub fn new(firmware: Name, number: u32) -> Option<Self> {
        (1..=limits::REPLICAS).contains(&number).then_some(Self { firmware, number })
    }

    /// All of a firmware that has so many.
    pub fn all(firmware: &Name, replicas: u32) -> impl Iterator<Item = Self> + '_ {
        let one = |number| Self { firmware: firmware.clone(), number };
        (1..=replicas.min(limits::REPLICAS)).map(one)
    }

    /// Whose it is.
    #[must_use]
    pub fn firmware(&self) -> &Name {
        &self.firmware
    }

    /// Which one, from 1.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The entity that it is.
    #[must_use]
    pub fn entity(&self) -> EntityId {
        let kind = EntityKind(EntityKind::FIRMWARE.into());
        EntityId { kind, key: EntityKey(self.to_string().into()) }
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            1 => self.firmware.fmt(f),
            number => f.pad(&format!("{}.{number}", self.firmware)),
        }
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ReplicaId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let Recipient { firmware, number } = text.parse()?;
        Ok(Self { firmware, number: number.unwrap_or(1) })
    }
}

impl TryFrom<String> for ReplicaId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<ReplicaId> for String {
    fn from(id: ReplicaId) -> Self {
        id.to_string()
    }
}

/// Whom a message is for: any replica of a firmware, `counter`, or a certain one, `counter.1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Recipient {
    firmware: Name,
    number: Option<u32>,
}

impl Recipient {
    /// The firmware.
    #[must_use]
    pub fn firmware(&self) -> &Name {
        &self.firmware
    }

    /// The replica, if it is for a certain one.
    #[must_use]
    pub fn replica(&self) -> Option<ReplicaId> {
        self.number.map(|number| ReplicaId { firmware: self.firmware.clone(), number })
    }
}

impl From<Name> for Recipient {
    fn from(firmware: Name) -> Self {
        Self { firmware, number: None }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            None => self.firmware.fmt(f),
            Some(number) => f.pad(&format!("{}.{number}", self.firmware)),
        }
    }
}

impl FromStr for Recipient {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let Some((firmware, digits)) = text.split_once('.') else {
            return Ok(Self { firmware: text.parse()?, number: None });
        };
        let firmware = firmware.parse()?;
        let number = digits.parse().ok().filter(|number: &u32| {
            (1..=limits::REPLICAS).contains(number) && number.to_string() == digits
        });
        match number {
            Some(number) => Ok(Self { firmware, number: Some(number) }),
            None => Err(IdError::Form {
                what: "replica of a firmware",
                given: text.into(),
                form: "NAME, or NAME.N with the number of a replica from 1 on",
            }),
        }
    }
}

impl TryFrom<String> for Recipient {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Recipient> for String {
    fn from(recipient: Recipient) -> Self {
        recipient.to_string()
    }
}

impl EntityId {
    /// The replica of a firmware that it would be, if its kind is [`EntityKind::FIRMWARE`]. Whether
    /// there is one is for the table of firmware to say.
    #[must_use]
    pub fn replica(&self) -> Option<ReplicaId> {
        if self.kind.as_str() != EntityKind::FIRMWARE {
            return None;
        }
        // What is spelled otherwise than it would be printed is another entity.
        let replica: ReplicaId = self.key.as_str().parse().ok()?;
        (replica.to_string() == self.key.as_str()).then_some(replica)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SessionId;

    fn replica(text: &str) -> ReplicaId {
        text.parse().expect("a replica")
    }

    #[test]
    fn the_first_replica_is_called_as_its_firmware_and_the_others_as_nothing_deployable() {
        assert_eq!(replica("counter").entity().to_string(), "firmware/counter");
        assert_eq!(replica("counter.1"), replica("counter"));
        assert_eq!(replica("counter.2").entity().to_string(), "firmware/counter.2");
        assert!("counter.2".parse::<Name>().is_err());
        for text in
            ["counter.", "counter.0", "counter.02", "counter.+2", "counter.2.3", ".2", "c.999"]
        {
            assert!(text.parse::<ReplicaId>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_entity_is_the_replica_that_prints_as_it() {
        let entity = |text: &str| text.parse::<EntityId>().expect("an entity");
        assert_eq!(entity("firmware/counter.2").replica(), Some(replica("counter.2")));
        assert_eq!(entity("firmware/counter").replica(), Some(replica("counter")));
        assert_eq!(entity("firmware/counter.1").replica(), None);
        assert_eq!(entity("lamp/counter").replica(), None);
    }

    #[test]
    fn each_replica_has_sessions_of_its_own_in_a_group_of_their_own() {
        let owned = |text: &str| SessionId::owned_by(&replica(text).entity(), "2/x").expect("one");
        assert_eq!(owned("counter").as_str(), "counter/2/x");
        assert_eq!(owned("counter.2").as_str(), "counter.2/2/x");
        assert_eq!(
            owned("counter.2").owner(),
            SessionId::owner_text(&replica("counter.2").entity())
        );
    }

    #[test]
    fn a_message_is_for_any_replica_or_for_a_certain_one() {
        let recipient = |text: &str| text.parse::<Recipient>().expect("a recipient");
        assert_eq!(recipient("counter").replica(), None);
        assert_eq!(recipient("counter.1").replica(), Some(replica("counter")));
        for text in ["counter", "counter.1", "counter.7"] {
            assert_eq!(recipient(text).to_string(), text);
        }
    }
}

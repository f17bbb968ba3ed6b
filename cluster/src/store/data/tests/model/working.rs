//! A session in the hands of one command of the model.

use odeum_proto::session::{Compare, Quotas, Test, What};

use super::*;

pub(super) struct Working {
    pub(super) session: ModelSession,
    pub(super) told: Vec<What>,
    pub(super) quotas: Quotas,
}

impl ModelVariable {
    pub(super) fn value(&self) -> &Value {
        &self.values.last().expect("it has one").0
    }

    pub(super) fn version(&self) -> u64 {
        self.values.last().expect("it has one").1
    }

    fn forget(&mut self) {
        let spare = self.values.len() - 1;
        self.values.drain(..spare.saturating_sub(usize::from(self.definition.history)));
    }
}

impl Working {
    pub(super) fn holds(&self, compare: &Compare) -> bool {
        let there = self.session.variables.get(&compare.key);
        match &compare.test {
            Test::Version(version) => there.map_or(0, ModelVariable::version) == *version,
            Test::Exists(exists) => there.is_some() == *exists,
            Test::Is(value) => there.is_some_and(|v| v.value() == value),
        }
    }

    pub(super) fn operate(&mut self, operation: &Operation) -> Option<Done> {
        match operation {
            Operation::Register { key, definition, initial, replace } => {
                if !fits(definition, initial) {
                    return None;
                }
                let Some(there) = self.session.variables.get_mut(key) else {
                    let version = self.put(key, definition, initial)?;
                    return Some(Done::Registered { version, changed: true });
                };
                let version = there.version();
                if there.definition == **definition {
                    return Some(Done::Registered { version, changed: false });
                }
                if !replace || !fits(definition, there.value()) {
                    return None;
                }
                there.definition = (**definition).clone();
                there.forget();
                self.told.push(What::Defined { key: key.clone() });
                Some(Done::Registered { version, changed: true })
            }
            Operation::Set { key, value, expected, register } => {
                self.expect(key, *expected)?;
                let Some(there) = self.session.variables.get_mut(key) else {
                    if !register {
                        return None;
                    }
                    let version = self.put(key, &Definition::untyped(value.kind()), value)?;
                    return Some(Done::Written { version });
                };
                let larger = value.weight() > there.value().weight();
                if !fits(&there.definition, value) || (larger && !is_small(value, self.quotas)) {
                    return None;
                }
                let version = there.version() + 1;
                there.values.push((value.clone(), version));
                there.forget();
                let (key, value) = (key.clone(), value.clone());
                self.told.push(What::Set { key, value, version });
                Some(Done::Written { version })
            }
            Operation::Delete { key, expected } => {
                self.expect(key, *expected)?;
                let gone = self.session.variables.remove(key);
                if let Some(gone) = &gone {
                    self.session.last_version = self.session.last_version.max(gone.version());
                    self.told.push(What::Removed { key: key.clone() });
                }
                Some(Done::Removed { existed: gone.is_some() })
            }
            Operation::Note { key, value } => {
                let table = &mut self.session.metadata;
                let existed = table.remove(key).is_some();
                if let Some(value) = value {
                    table.insert(key.clone(), value.clone());
                }
                if existed || value.is_some() {
                    self.told.push(What::Noted { key: key.clone(), value: value.clone() });
                }
                Some(if value.is_some() { Done::Stored } else { Done::Removed { existed } })
            }
            Operation::PutProgram { name, program } => {
                self.session.programs.insert(name.clone(), Arc::clone(program));
                self.told.push(What::ProgramPut { name: name.clone() });
                Some(Done::Stored)
            }
            Operation::DeleteProgram { name } => {
                let existed = self.session.programs.remove(name).is_some();
                if existed {
                    self.told.push(What::ProgramDeleted { name: name.clone() });
                }
                Some(Done::Removed { existed })
            }
        }
    }

    fn put(&mut self, key: &str, definition: &Definition, value: &Value) -> Option<u64> {
        let full = self.session.variables.len() as u64 >= self.quotas.variables_per_session;
        if full || !is_small(value, self.quotas) {
            return None;
        }
        let version = self.session.last_version + 1;
        let values = vec![(value.clone(), version)];
        let variable = ModelVariable { definition: definition.clone(), values };
        self.session.variables.insert(key.into(), variable);
        self.told.push(What::Set { key: key.into(), value: value.clone(), version });
        Some(version)
    }

    fn expect(&self, key: &str, expected: Option<u64>) -> Option<()> {
        let is = self.session.variables.get(key).map_or(0, ModelVariable::version);
        expected.is_none_or(|expected| expected == is).then_some(())
    }
}

fn is_small(value: &Value, quotas: Quotas) -> bool {
    value.weight() as u64 <= quotas.variable_bytes
}

/// The constraints that histories use: integers from min to max.
fn fits(definition: &Definition, value: &Value) -> bool {
    let number = |value: &Value| if let Value::Integer(n) = value { Some(*n) } else { None };
    let bound = |bound: &Option<Value>| bound.as_ref().and_then(number);
    let (min, max) = (bound(&definition.constraints.min), bound(&definition.constraints.max));
    definition.kind == value.kind()
        && number(value)
            .is_none_or(|n| min.is_none_or(|min| n >= min) && max.is_none_or(|max| n <= max))
}

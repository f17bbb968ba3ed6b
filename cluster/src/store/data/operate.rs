//! The operations of a command, one by one, on a draft.

use odeum_proto::session::{
    Compare, Definition, DefinitionFault, Done, Metadata, Operation, Part, Program, Quota,
    SessionRefusal, Test, Value, What,
};
use odeum_proto::{SessionId, limits};

use super::draft::{Draft, at_most};
use super::variable::Variable;

/// What an operation came to, or why it was refused.
type Answer = Result<Done, SessionRefusal>;

impl<'c> Draft<'_, 'c> {
    /// Does each of them that is not refused.
    pub(super) fn each(&mut self, operations: &'c [Operation]) -> Vec<Answer> {
        operations.iter().map(|operation| self.operate(operation)).collect()
    }

    /// Does them up to the first that is refused; the draft is of no use after that.
    pub(super) fn all(&mut self, operations: &'c [Operation]) -> Result<Vec<Done>, SessionRefusal> {
        let named = |(index, operation)| {
            self.operate(operation)
                .map_err(|refusal| SessionRefusal::Operation { index, refusal: Box::new(refusal) })
        };
        (0..).zip(operations).map(named).collect()
    }

    /// Whether a comparison holds.
    pub(super) fn holds(&self, compare: &Compare) -> bool {
        let variable = self.variable(&compare.key);
        match &compare.test {
            Test::Version(version) => variable.map_or(0, Variable::version) == *version,
            Test::Exists(exists) => variable.is_some() == *exists,
            Test::Is(value) => variable.is_some_and(|variable| variable.value().equals(value)),
        }
    }

    /// Does one thing, or nothing when it is refused.
    pub(super) fn operate(&mut self, operation: &'c Operation) -> Answer {
        match operation {
            Operation::Register { key, definition, initial, replace } => {
                self.register(key, definition, initial, *replace)
            }
            Operation::Set { key, value, expected, register } => {
                self.set(key, value, *expected, *register)
            }
            Operation::Delete { key, expected } => self.delete(key, *expected),
            Operation::Note { key, value } => {
                if let Some(value) = value {
                    check_note(self.id, key, value)?;
                }
                let existed = self.put_note(key, value.as_deref())?;
                Ok(if value.is_some() { Done::Stored } else { Done::Removed { existed } })
            }
            Operation::PutProgram { name, program } => {
                self.check_program(name, program)?;
                self.put_program(name, Some(program)).map(|_| Done::Stored)
            }
            Operation::DeleteProgram { name } => {
                self.put_program(name, None).map(|existed| Done::Removed { existed })
            }
        }
    }

    fn register(
        &mut self,
        key: &'c str,
        definition: &Definition,
        initial: &Value,
        replace: bool,
    ) -> Answer {
        check_name(self.id, Part::Variable, key)?;
        self.check_definition(key, definition)?;
        self.check_type(key, definition, initial)?;
        self.check_value(key, definition, initial)?;
        let Some(old) = self.variable(key) else {
            let version = self.write_new(key, definition, initial)?;
            return Ok(Done::Registered { version, changed: true });
        };
        let version = old.version();
        if old.definition() == *definition {
            // As it is; but its answer may have to be remembered.
            self.scope.check_growth(self.grown(), 0)?;
            return Ok(Done::Registered { version, changed: false });
        }
        if !replace {
            let (session, key) = (self.id.clone(), key.into());
            return Err(SessionRefusal::DefinitionDiffers { session, key });
        }
        let (mut renewed, size) = (old.clone(), old.size(key));
        self.check_type(key, definition, renewed.value())?;
        self.check_value(key, definition, renewed.value())?;
        renewed.define(definition);
        self.put_variable(key, Some(size), renewed, What::Defined { key: key.into() })?;
        Ok(Done::Registered { version, changed: true })
    }

    fn set(
        &mut self,
        key: &'c str,
        value: &Value,
        expected: Option<u64>,
        register: bool,
    ) -> Answer {
        check_name(self.id, Part::Variable, key)?;
        self.check_version(key, expected)?;
        if !register && self.variable(key).is_none() {
            let (session, key) = (self.id.clone(), key.into());
            return Err(SessionRefusal::UnknownVariable { session, key });
        }
        self.write(key, value).map(|version| Done::Written { version })
    }

    /// Writes a variable, or makes it with the value's type and without constraints.
    pub(super) fn write(&mut self, key: &'c str, value: &Value) -> Result<u64, SessionRefusal> {
        let Some(old) = self.variable(key) else {
            let definition = Definition::untyped(value.kind());
            self.check_value(key, &definition, value)?;
            return self.write_new(key, &definition, value);
        };
        let (mut written, size) = (old.clone(), old.size(key));
        // The definition is copied only for variables that have one; others allow everything.
        if written.constraints().is_some() || written.kind() != value.kind() {
            let definition = written.definition();
            self.check_type(key, &definition, value)?;
            self.check_value(key, &definition, value)?;
        } else {
            self.check_value(key, &Definition::untyped(value.kind()), value)?;
        }
        written.write(value.clone(), self.scope.stamp);
        let version = written.version();
        let what = What::Set { key: key.into(), value: value.clone(), version };
        self.put_variable(key, Some(size), written, what)?;
        Ok(version)
    }

    fn write_new(
        &mut self,
        key: &'c str,
        definition: &Definition,
        value: &Value,
    ) -> Result<u64, SessionRefusal> {
        let version = self.next_version();
        let variable = Variable::new(definition, value.clone(), version, self.scope.stamp);
        let what = What::Set { key: key.into(), value: value.clone(), version };
        self.put_variable(key, None, variable, what)?;
        Ok(version)
    }

    fn delete(&mut self, key: &'c str, expected: Option<u64>) -> Answer {
        // A name that none can have would be in what is remembered of this.
        check_name(self.id, Part::Variable, key)?;
        self.check_version(key, expected)?;
        self.remove_variable(key).map(|existed| Done::Removed { existed })
    }

    fn check_version(&self, key: &str, expected: Option<u64>) -> Result<(), SessionRefusal> {
        let Some(expected) = expected else { return Ok(()) };
        let is = self.variable(key).map_or(0, Variable::version);
        if is == expected {
            return Ok(());
        }
        let (session, key) = (self.id.clone(), key.into());
        Err(SessionRefusal::VersionConflict { session, key, is, expected })
    }

    fn check_type(
        &self,
        key: &str,
        definition: &Definition,
        value: &Value,
    ) -> Result<(), SessionRefusal> {
        let (is, got) = (definition.kind, value.kind());
        if is == got {
            return Ok(());
        }
        Err(SessionRefusal::TypeMismatch { session: self.id.clone(), key: key.into(), is, got })
    }

    /// Whether `value`, which is of the right type, is one, and an allowed one.
    fn check_value(
        &mut self,
        key: &str,
        definition: &Definition,
        value: &Value,
    ) -> Result<(), SessionRefusal> {
        let session = || self.id.clone();
        value.check().map_err(|fault| SessionRefusal::Value {
            session: session(),
            key: key.into(),
            fault,
        })?;
        definition.constraints.check(value, self.scope.patterns).map_err(|violation| {
            SessionRefusal::Violated { session: session(), key: key.into(), violation }
        })
    }

    fn check_definition(
        &mut self,
        key: &str,
        definition: &Definition,
    ) -> Result<(), SessionRefusal> {
        let session = self.id;
        let refused =
            |fault| SessionRefusal::Definition { session: session.clone(), key: key.into(), fault };
        let (got, limit) = (definition.history, limits::HISTORY_DEPTH);
        if got > limit {
            return Err(refused(DefinitionFault::History { got, limit }));
        }
        definition
            .constraints
            .check_definition(definition.kind, self.scope.patterns)
            .map_err(refused)?;
        check_metadata(session, &definition.metadata)
    }

    fn check_program(&self, name: &str, program: &Program) -> Result<(), SessionRefusal> {
        let session = self.id;
        check_name(session, Part::Program, name)?;
        check_name(session, Part::Language, &program.language)?;
        let of = format_args!("program {name} of session {session}");
        at_most(Quota::ProgramBytes, of, program.content.len(), limits::PROGRAM_BYTES)?;
        check_metadata(session, &program.metadata)
    }
}

fn check_name(session: &SessionId, part: Part, name: &str) -> Result<(), SessionRefusal> {
    part.check(name).map_err(|fault| SessionRefusal::Name {
        session: session.clone(),
        part,
        name: name.chars().take(limits::NAME_BYTES).collect::<String>().into(),
        fault,
    })
}

fn check_note(session: &SessionId, key: &str, value: &str) -> Result<(), SessionRefusal> {
    check_name(session, Part::Metadata, key)?;
    let of = format_args!("{key} of session {session}");
    at_most(Quota::MetadataBytes, of, value.len(), limits::METADATA_BYTES)
}

/// Whether a whole table of metadata is within its bounds.
pub(super) fn check_metadata(
    session: &SessionId,
    metadata: &Metadata,
) -> Result<(), SessionRefusal> {
    let of = format_args!("session {session}");
    at_most(Quota::MetadataEntries, of, metadata.len(), limits::METADATA_ENTRIES)?;
    metadata.iter().try_for_each(|(key, value)| check_note(session, key, value))
}

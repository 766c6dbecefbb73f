//! Commands that the session answers itself: transactions, settings, names.

use std::sync::Arc;

use super::prepared::no_portal;
use super::{Connection, Prepared, REPORTED};
use crate::error::{SqlError, sqlstate};
use crate::pg::backend::TransactionState;
use crate::rewrite;
use crate::settings::Applied;
use crate::statement::{Command, SetValue};

impl Connection<'_> {
    /// Commands that the session answers itself; the command tag.
    pub(super) fn control(&mut self, command: Command) -> Result<String, SqlError> {
        match command {
            Command::NoEffect(tag) => Ok(tag.to_owned()),
            Command::Set { name, value, is_local } => self.set(&name, value, is_local).map(|()| "SET".to_owned()),
            Command::Reset(name) => {
                let settings = Arc::make_mut(&mut self.settings);
                match name {
                    None => settings.reset_all(),
                    Some(name) => settings.reset(&name)?,
                }
                self.report_settings();
                Ok("RESET".to_owned())
            }
            Command::Begin { tag } => {
                if self.transaction == TransactionState::Idle {
                    self.transaction = TransactionState::Open;
                    self.before_transaction = Some(Arc::clone(&self.settings));
                } else {
                    self.sink.outbox.notice("WARNING", "25001", "there is already a transaction in progress");
                }
                Ok(tag.to_owned())
            }
            Command::Commit => {
                let failed = self.transaction == TransactionState::Failed;
                self.end_transaction(!failed);
                Ok(if failed { "ROLLBACK" } else { "COMMIT" }.to_owned())
            }
            Command::Rollback => {
                self.end_transaction(false);
                Ok("ROLLBACK".to_owned())
            }
            Command::Savepoint => self.in_transaction("SAVEPOINT").map(|()| "SAVEPOINT".to_owned()),
            Command::ReleaseSavepoint => self.in_transaction("RELEASE SAVEPOINT").map(|()| "RELEASE".to_owned()),
            Command::RollbackToSavepoint => {
                self.in_transaction("ROLLBACK TO SAVEPOINT")?;
                self.transaction = TransactionState::Open;
                Ok("ROLLBACK".to_owned())
            }
            Command::Discard { all } => {
                if all {
                    self.statements.clear();
                    self.portals.clear();
                    Arc::make_mut(&mut self.settings).reset_all();
                    self.report_settings();
                }
                Ok(if all { "DISCARD ALL" } else { "DISCARD" }.to_owned())
            }
            Command::Deallocate(None) => {
                self.statements.clear();
                Ok("DEALLOCATE ALL".to_owned())
            }
            Command::Deallocate(Some(name)) => {
                self.statement(&name)?;
                self.statements.remove(&name);
                Ok("DEALLOCATE".to_owned())
            }
            Command::Prepare { name, parameter_types, statement } => {
                let types = parameter_types.iter().map(rewrite::type_oid).collect::<Result<Vec<_>, _>>()?;
                self.keep_statement(name, Prepared { command: Some(Command::Rows(statement)), types })?;
                Ok("PREPARE".to_owned())
            }
            Command::CloseCursor(None) => {
                self.portals.retain(|_, portal| !portal.is_cursor);
                Ok("CLOSE CURSOR ALL".to_owned())
            }
            Command::CloseCursor(Some(name)) => {
                self.portals.remove(&name).ok_or_else(|| no_portal(&name))?;
                Ok("CLOSE CURSOR".to_owned())
            }
            Command::Rows(_)
            | Command::Show(_)
            | Command::ShowAll
            | Command::Execute { .. }
            | Command::DeclareCursor { .. }
            | Command::Fetch { .. }
            | Command::Copy { .. } => Err(crate::statement::unsupported("this statement here")),
        }
    }

    pub(super) fn in_transaction(&self, what: &str) -> Result<(), SqlError> {
        if self.transaction == TransactionState::Idle {
            return Err(SqlError::new(
                sqlstate::NO_TRANSACTION,
                format!("{what} can only be used in transaction blocks"),
            ));
        }
        Ok(())
    }

    pub(super) fn end_transaction(&mut self, commit: bool) {
        let before = self.before_transaction.take();
        if self.transaction == TransactionState::Idle {
            self.sink.outbox.notice("WARNING", sqlstate::NO_TRANSACTION, "there is no transaction in progress");
        } else if let Some(before) = before {
            if !commit {
                self.settings = before;
            } else {
                let settings = Arc::make_mut(&mut self.settings);
                for name in self.local_settings.drain(..) {
                    // Both were accepted once.
                    let _ = match before.get(&name) {
                        Ok(value) => settings.set(&name, &value).map(|_| ()),
                        Err(_) => settings.reset(&name),
                    };
                }
            }
            self.report_settings();
        }
        self.local_settings.clear();
        self.transaction = TransactionState::Idle;
        self.portals.retain(|_, portal| portal.hold);
    }

    pub(super) fn set(&mut self, name: &str, value: SetValue, is_local: bool) -> Result<(), SqlError> {
        if is_local && self.transaction == TransactionState::Idle {
            self.sink.outbox.notice(
                "WARNING",
                sqlstate::NO_TRANSACTION,
                "SET LOCAL can only be used in transaction blocks",
            );
            return Ok(());
        }
        let settings = Arc::make_mut(&mut self.settings);
        let applied = match value {
            SetValue::Default => settings.reset(name).map(|()| Applied::Quietly)?,
            SetValue::Text(value) => settings.set(name, &value)?,
        };
        if is_local {
            self.local_settings.push(name.to_owned());
        }
        if let Applied::WithoutEffect(text) = applied {
            self.sink.outbox.notice("WARNING", sqlstate::FEATURE_NOT_SUPPORTED, &text);
        }
        self.report_settings();
        Ok(())
    }

    /// Clients keep track of some settings by these messages; repeating a value does no harm.
    pub(super) fn report_settings(&mut self) {
        for (shown, name) in &REPORTED[..6] {
            let value = self.settings.get(name).unwrap_or_default();
            self.sink.outbox.parameter_status(shown, &value);
        }
    }
}

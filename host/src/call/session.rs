//! Several operations of one user in one transaction.

use std::mem;
use std::time::{Duration, Instant};

use super::Shared;
use crate::api::{Method, OperationError, code};
use crate::sandbox::{Ended, Operation};
use crate::store::{Fault, GroupEntry, Transaction};

/// Operations of one user that are kept together or not at all. Each runs in a sandbox of its own and sees what those
/// before it did.
#[derive(Debug)]
pub struct Session<'a> {
    shared: &'a Shared,
    state: State,
    pub(super) methods: Vec<Method>,
    pub(super) memory_bytes: usize,
    pub(super) spent: Spent,
}

#[derive(Debug)]
enum State {
    Open(Box<Transaction>),
    Ended(Ended),
    /// An operation panicked in the host.
    Running,
}

/// An operation failed or was refused, and with it the whole session: to be handed back to the host, which knows why.
#[derive(Debug, thiserror::Error)]
#[error("the session has ended")]
pub struct Interrupted(());

/// Where the time of a call went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Setting sandboxes up.
    pub sandbox: Duration,
    /// Running the plugin, its imports included.
    pub guest: Duration,
    /// Reading from the store, which is part of `guest`.
    pub reading: Duration,
    /// Committing.
    pub commit: Duration,
}

impl<'a> Session<'a> {
    pub(super) fn new(shared: &'a Shared, transaction: Transaction) -> Self {
        Self {
            shared,
            state: State::Open(Box::new(transaction)),
            methods: Vec::new(),
            memory_bytes: 0,
            spent: Spent::default(),
        }
    }

    /// Runs an operation.
    ///
    /// # Errors
    ///
    /// When it is refused or fails. The session is over then, and nothing of it is kept.
    pub fn call<O: Operation>(&mut self, operation: &O) -> Result<O::Output, Interrupted> {
        let transaction = match mem::replace(&mut self.state, State::Running) {
            State::Open(transaction) => transaction,
            ended => {
                self.state = ended;
                return Err(Interrupted(()));
            }
        };
        if let Err(refusal) = self.check_size(operation) {
            return Err(self.end(Ended::Refused(refusal)));
        }
        let method = operation.method();
        if !self.methods.contains(&method) {
            self.methods.push(method);
        }
        let shared = self.shared;
        let _span = tracing::debug_span!("operation", method = method.name()).entered();
        let ran = operation.run(&shared.sandbox, &shared.plugin.compiled, *transaction, &shared.limits);
        match ran {
            Ok(ran) => {
                self.state = State::Open(Box::new(ran.transaction));
                self.memory_bytes = self.memory_bytes.max(ran.memory_bytes);
                self.spent.sandbox += ran.setup;
                self.spent.guest += ran.guest;
                Ok(ran.result)
            }
            Err(ended) => Err(self.end(ended)),
        }
    }

    /// The groups and their numbers, as the operations so far left them.
    ///
    /// # Errors
    ///
    /// When the store fails, or the session is over.
    pub fn groups(&mut self) -> Result<Vec<GroupEntry>, Interrupted> {
        let State::Open(transaction) = &mut self.state else { return Err(Interrupted(())) };
        transaction.groups().map_err(|fault| {
            self.end(match fault {
                Fault::Store(error) => Ended::Store(error),
                Fault::Conflict => Ended::Conflict,
                Fault::OutOfBounds(what) => unreachable!("a list of groups has no argument: {what}"),
            })
        })
    }

    /// Refuses the whole, in the name of whoever translates the caller's request into operations.
    pub fn refuse(&mut self, code: i32, desc: impl Into<String>) -> Interrupted {
        self.end(Ended::Refused(OperationError { code, desc: desc.into() }))
    }

    /// What is staged; or why there is nothing to commit.
    pub(super) fn into_transaction(self) -> Result<Transaction, Ended> {
        match self.state {
            State::Open(transaction) => Ok(*transaction),
            State::Ended(ended) => Err(ended),
            State::Running => unreachable!("a panic does not come back here"),
        }
    }

    fn end(&mut self, ended: Ended) -> Interrupted {
        self.state = State::Ended(ended);
        Interrupted(())
    }

    /// An operation that is far beyond every limit would only fill the plugin's memory, and be blamed on the plugin.
    fn check_size(&self, operation: &impl Operation) -> Result<(), OperationError> {
        let refuse = |code, desc| Err(OperationError { code, desc });
        let (ids, max) = (operation.conversation_ids().len(), self.shared.bounds.max_ids);
        if ids > max as usize {
            return refuse(code::BATCH_SIZE, format!("the list has {ids} conversations, at most {max} are allowed"));
        }
        let (bytes, max) = (operation.text_bytes(), self.shared.max_request_bytes);
        if bytes > max {
            let desc = format!("the request has {bytes} bytes, at most {max} are allowed");
            return refuse(code::INVALID_PARAMETER, desc);
        }
        Ok(())
    }
}

/// When a call has to end, what it is called in results and logs, and how many calls of its user it may join.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// The id of the call.
    pub request_id: String,
    /// When to stop waiting; nothing for the time that the settings give from now on.
    pub deadline: Option<Instant>,
    /// The most calls that its user may have in flight, this one included; beyond them, the call is rejected
    /// ([`HostFault::UserBusy`](super::HostFault::UserBusy)). `None`: only the host's own limits count.
    pub max_of_user: Option<u32>,
}

impl Default for CallContext {
    /// An id of its own, and the time that the settings give.
    fn default() -> Self {
        Self { request_id: new_request_id(), deadline: None, max_of_user: None }
    }
}

/// An id for a call, which nobody else has: 32 hexadecimal digits.
#[must_use]
pub fn new_request_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

//! One commit: the version's condition and raise, the changes, and the log's row, together or not at all.
//!
//! A commit of one change, as nearly all are, is one statement. A commit of several is a transaction of a statement for
//! each, sent together, and a second round trip to commit: one statement could not apply them in their order.
//!
//! A change that does not fit what is there must undo everything. Constraints see to most of it; where a row is missing that
//! was to be changed, the log's events are written as NULL, which they may not be.

use std::cell::Cell;
use std::collections::HashSet;

use futures_util::future::join_all;
use tokio_postgres::types::{ToSql, Type};

use super::statement::{Lease, Statement, Trouble, column};
use crate::model::{Change, ConversationData, Positions, Version};
use crate::store::{Commit, Skip};

/// A commit, encoded.
pub(super) struct Prepared<'a> {
    pub(super) commit: &'a Commit,
    /// The version that it leads to.
    pub(super) version: Version,
    pub(super) token: Vec<u8>,
    pub(super) origin: String,
    pub(super) events: String,
}

/// The shapes of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Created,
    Deleted,
    Renamed,
    Added,
    Removed,
    Noted,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Created, Self::Deleted, Self::Renamed, Self::Added, Self::Removed, Self::Noted];

    fn of(change: &Change) -> Self {
        match change {
            Change::GroupCreated { .. } => Self::Created,
            Change::GroupDeleted { .. } => Self::Deleted,
            Change::GroupRenamed { .. } => Self::Renamed,
            Change::ConversationsAdded { .. } => Self::Added,
            Change::ConversationsDeleted { .. } => Self::Removed,
            Change::ConversationsChanged { .. } => Self::Noted,
        }
    }

    /// Parts of a statement that apply a change where `bumped` has the user's row, and the condition under which it fitted.
    /// Parameters of the change are letters.
    fn parts(self) -> (&'static str, &'static str) {
        match self {
            // A is the name, B how many numbers are given or left out after this one's, C the ids, D the first place.
            Self::Created => (
                "created AS (
                     INSERT INTO convgroups.groups (user_id, number, name)
                     SELECT $1, groups_created - $B, $A FROM bumped RETURNING number
                 ), joined AS (
                     INSERT INTO convgroups.members (user_id, group_number, conversation_id, position)
                     SELECT $1, created.number, new.id, $D + new.place - 1
                     FROM created CROSS JOIN unnest($C) WITH ORDINALITY AS new (id, place)
                 )",
                "true",
            ),
            Self::Deleted => (
                "deleted AS (
                     DELETE FROM convgroups.groups
                     WHERE user_id = $1 AND name = $A AND EXISTS (SELECT FROM bumped) RETURNING number
                 ), emptied AS (
                     DELETE FROM convgroups.members
                     WHERE user_id = $1 AND group_number = (SELECT number FROM deleted)
                 )",
                "(SELECT count(*) FROM deleted) = 1",
            ),
            // A is the old name, B the new one.
            Self::Renamed => (
                "renamed AS (
                     UPDATE convgroups.groups SET name = $B
                     WHERE user_id = $1 AND name = $A AND EXISTS (SELECT FROM bumped) RETURNING number
                 )",
                "(SELECT count(*) FROM renamed) = 1",
            ),
            // A is the group's name, B the ids, C the first place. A group that is not there has no number, which violates a
            // constraint.
            Self::Added => (
                "added AS (
                     INSERT INTO convgroups.members (user_id, group_number, conversation_id, position)
                     SELECT $1, (SELECT number FROM convgroups.groups WHERE user_id = $1 AND name = $A),
                            new.id, $C + new.place - 1
                     FROM bumped CROSS JOIN unnest($B) WITH ORDINALITY AS new (id, place)
                 )",
                "true",
            ),
            // A is the group's name, B the ids.
            Self::Removed => (
                "removed AS (
                     DELETE FROM convgroups.members
                     WHERE user_id = $1
                       AND group_number = (SELECT number FROM convgroups.groups WHERE user_id = $1 AND name = $A)
                       AND conversation_id = ANY($B) AND EXISTS (SELECT FROM bumped)
                     RETURNING conversation_id
                 )",
                "(SELECT count(*) FROM removed) = cardinality($B)",
            ),
            // A are the ids that have something now, B their marks, C their custom data, D their places should they be new,
            // E the ids that have nothing any more.
            Self::Noted => (
                "noted AS (
                     INSERT INTO convgroups.conversations (user_id, conversation_id, marks, custom_data, position)
                     SELECT $1, new.id, new.marks, new.custom_data, new.position
                     FROM bumped CROSS JOIN unnest($A, $B, $C, $D) AS new (id, marks, custom_data, position)
                     ON CONFLICT (user_id, conversation_id)
                     DO UPDATE SET marks = excluded.marks, custom_data = excluded.custom_data
                 ), cleared AS (
                     DELETE FROM convgroups.conversations
                     WHERE user_id = $1 AND conversation_id = ANY($E) AND EXISTS (SELECT FROM bumped)
                     RETURNING conversation_id
                 )",
                "(SELECT count(*) FROM cleared) = cardinality($E)",
            ),
        }
    }

    /// The types of the parameters from `$A` on.
    fn types(self) -> Vec<Type> {
        let (text, texts, place, places) = (Type::TEXT, Type::TEXT_ARRAY, Type::INT8, Type::INT8_ARRAY);
        match self {
            Self::Created => vec![text, Type::INT8, texts, place],
            Self::Deleted => vec![text],
            Self::Renamed => vec![text.clone(), text],
            Self::Added => vec![text, texts, place],
            Self::Removed => vec![text, texts],
            Self::Noted => vec![texts.clone(), places.clone(), texts.clone(), places, texts],
        }
    }

    /// The parts, with numbers from `first` on in the places of the letters.
    fn numbered(self, first: usize) -> (String, String) {
        let letters = ["$A", "$B", "$C", "$D", "$E"];
        let number = |part: &str| {
            let numbers = (first..).map(|number| format!("${number}"));
            letters.iter().zip(numbers).fold(part.to_owned(), |part, (letter, number)| part.replace(letter, &number))
        };
        let (change, fits) = self.parts();
        (number(change), number(fits))
    }
}

/// The statements of commits.
#[derive(Debug)]
pub(super) struct Commits {
    begin: String,
    /// For each kind: the whole commit of a user's first change, and of a later one.
    whole: [[Statement; 2]; Kind::ALL.len()],
    /// Raises the version: of a user's first change, and of a later one.
    raise: [Statement; 2],
    /// For each kind: the change alone.
    change: [Statement; Kind::ALL.len()],
    log: Statement,
    /// Begins the log anew.
    forget: Statement,
}

/// What a conflict need not wait for. Who waited for another host's commit holds the user's row now, though it changes nothing:
/// flushing that would keep all others waiting, and hand the row to whoever need not wait for it.
const WITHOUT_FLUSH: &str =
    "CASE WHEN NOT EXISTS (SELECT FROM bumped) THEN set_config('synchronous_commit', 'off', true) END";

/// Raises a user's version from `$2` to `$3`, if it is there and the tag is right. A user's first change makes the row.
fn bump(first: bool, created: &str, tag: &str) -> String {
    if first {
        format!(
            "INSERT INTO convgroups.users (user_id, version, groups_created)
             SELECT $1, $3, {created} WHERE $2 = 0::bigint AND {tag} = TAG
             ON CONFLICT DO NOTHING RETURNING groups_created"
        )
    } else {
        format!(
            "UPDATE convgroups.users SET version = $3, groups_created = groups_created + {created}
             WHERE user_id = $1 AND version = $2 AND {tag} = TAG RETURNING groups_created"
        )
    }
}

impl Commits {
    /// `patience_ms` is how long a transaction may be idle before the database ends it: its host is gone then, and others
    /// wait for the user's row.
    pub(super) fn new(patience_ms: u64) -> Self {
        let (text, number) = (Type::TEXT, Type::INT8);
        let of_user = |types: &[Type]| [text.clone()].iter().chain(types).cloned().collect::<Vec<Type>>();
        let whole = |kind: Kind, first: bool| {
            let (change, fits) = kind.numbered(9);
            let created = if kind == Kind::Created { "1" } else { "0" };
            let bump = bump(first, created, "$8");
            let statement = format!(
                "WITH bumped AS ({bump}), {change}, trimmed AS (
                     DELETE FROM convgroups.log WHERE user_id = $1 AND version <= $7 AND EXISTS (SELECT FROM bumped)
                 ), logged AS (
                     INSERT INTO convgroups.log (user_id, version, token, origin, events)
                     SELECT $1, $3, $4, $5, CASE WHEN {fits} THEN $6 END FROM bumped
                 ) SELECT TAG, EXISTS (SELECT FROM bumped), {WITHOUT_FLUSH}"
            );
            let mut types = of_user(&[number.clone(), number.clone(), Type::BYTEA, text.clone(), text.clone()]);
            types.extend([number.clone(), number.clone()]);
            types.extend(kind.types());
            Statement::new(&statement, &types)
        };
        let change = |kind: Kind| {
            let (change, fits) = kind.numbered(3);
            let bumped = "SELECT groups_created FROM convgroups.users WHERE user_id = $1 AND $2 = TAG";
            let mut types = of_user(std::slice::from_ref(&number));
            types.extend(kind.types());
            Statement::new(&format!("WITH bumped AS ({bumped}), {change} SELECT TAG, {fits}"), &types)
        };
        let raise = |first: bool| {
            let bump = bump(first, "$4", "$5");
            let types = of_user(&[number.clone(), number.clone(), number.clone(), number.clone()]);
            Statement::new(&format!("WITH bumped AS ({bump}) SELECT TAG, EXISTS (SELECT FROM bumped)"), &types)
        };
        let log = "WITH trimmed AS (
                 DELETE FROM convgroups.log WHERE user_id = $1 AND version <= $7 AND $2 = TAG
             ), logged AS (
                 INSERT INTO convgroups.log (user_id, version, token, origin, events)
                 SELECT $1, $3, $4, $5, $6 WHERE $2 = TAG
             ) SELECT TAG";
        let types = [number.clone(), number.clone(), Type::BYTEA, text.clone(), text.clone(), number.clone()];
        Self {
            begin: format!("BEGIN; SET LOCAL idle_in_transaction_session_timeout = {patience_ms}"),
            whole: Kind::ALL.map(|kind| [whole(kind, true), whole(kind, false)]),
            raise: [raise(true), raise(false)],
            change: Kind::ALL.map(change),
            log: Statement::new(log, &of_user(&types)),
            forget: Statement::new(
                "WITH emptied AS (DELETE FROM convgroups.log WHERE user_id = $1 AND $2 = TAG) SELECT TAG",
                &of_user(std::slice::from_ref(&number)),
            ),
        }
    }

    /// Commits; answers whether the user was at the base version. Until `last_word` is set, nothing that was sent can have
    /// led to a commit.
    pub(super) async fn run(
        &self,
        lease: &Lease,
        prepared: &Prepared<'_>,
        last_word: &Cell<bool>,
    ) -> Result<bool, Trouble> {
        let commit = prepared.commit;
        let (steps, numbers_taken) = steps(commit, prepared.version);
        match steps.as_slice() {
            [step] if commit.skip == Skip::default() => self.run_one(lease, prepared, step, last_word).await,
            steps => self.run_many(lease, prepared, steps, numbers_taken, last_word).await,
        }
    }

    async fn run_one(
        &self,
        lease: &Lease,
        prepared: &Prepared<'_>,
        step: &Step<'_>,
        last_word: &Cell<bool>,
    ) -> Result<bool, Trouble> {
        let [first, later] = &self.whole[step.kind as usize];
        let statement = if prepared.is_first() { first } else { later };
        let numbers = prepared.numbers();
        let user = prepared.commit.user.as_str();
        let tag = statement.tag();
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![
            &user,
            &numbers.base,
            &numbers.version,
            &prepared.token,
            &prepared.origin,
            &prepared.events,
            &numbers.trimmed,
            &tag,
        ];
        params.extend(step.arguments.iter().map(|argument| &**argument));
        lease.prepare(statement).await?;
        last_word.set(true);
        column(&lease.ask(statement, &params).await?, 1)
    }

    async fn run_many(
        &self,
        lease: &Lease,
        prepared: &Prepared<'_>,
        steps: &[Step<'_>],
        numbers_taken: i64,
        last_word: &Cell<bool>,
    ) -> Result<bool, Trouble> {
        let [first, later] = &self.raise;
        let raise = if prepared.is_first() { first } else { later };
        let changes = steps.iter().map(|step| (&self.change[step.kind as usize], step)).collect::<Vec<_>>();
        // Who left versions out leaves no log either, so that nobody takes it for complete.
        let begins_anew = prepared.commit.skip.versions > 0;
        let log = if begins_anew { &self.forget } else { &self.log };
        // Nothing may come between the messages that are sent together.
        for statement in [raise, log].into_iter().chain(changes.iter().map(|(statement, _)| *statement)) {
            lease.prepare(statement).await?;
        }

        let numbers = prepared.numbers();
        let user = prepared.commit.user.as_str();
        let (raise_tag, log_tag) = (raise.tag(), log.tag());
        let raise_params: [&(dyn ToSql + Sync); 5] =
            [&user, &numbers.base, &numbers.version, &numbers_taken, &raise_tag];
        let logged: [&(dyn ToSql + Sync); 5] =
            [&numbers.version, &prepared.token, &prepared.origin, &prepared.events, &numbers.trimmed];
        let mut log_params: Vec<&(dyn ToSql + Sync)> = vec![&user, &log_tag];
        if !begins_anew {
            log_params.extend(logged);
        }
        // Polled in this order, and so sent in it.
        let (begun, raised, changed, logged) = futures_util::join!(
            lease.execute(&self.begin),
            lease.ask(raise, &raise_params),
            join_all(changes.iter().map(|(statement, step)| step.apply(lease, statement, user))),
            lease.ask(log, &log_params),
        );
        begun?;
        if !column::<bool>(&raised?, 1)? {
            lease.execute("ROLLBACK").await?;
            return Ok(false);
        }
        for fits in changed {
            if !fits? {
                // The connection ends, and the transaction with it.
                return Err(Trouble::Misfit);
            }
        }
        logged?;
        last_word.set(true);
        lease.execute("COMMIT").await?;
        Ok(true)
    }
}

/// Numbers as the database has them.
struct Numbers {
    base: i64,
    version: i64,
    /// What the log has up to here goes.
    trimmed: i64,
}

impl Prepared<'_> {
    fn is_first(&self) -> bool {
        self.commit.base == Version::default()
    }

    fn numbers(&self) -> Numbers {
        // Versions are far below the end of the numbers.
        let number = |version: u64| i64::try_from(version).unwrap_or(i64::MAX);
        let trimmed = self.version.0.saturating_sub(self.commit.keep.max(1).into());
        Numbers { base: number(self.commit.base.0), version: number(self.version.0), trimmed: number(trimmed) }
    }
}

/// A change as arguments of its statement.
struct Step<'a> {
    kind: Kind,
    arguments: Vec<Box<dyn ToSql + Sync + 'a>>,
}

impl Step<'_> {
    /// Applies the change inside a transaction; answers whether it fitted.
    async fn apply(&self, lease: &Lease, statement: &Statement, user: &str) -> Result<bool, Trouble> {
        let tag = statement.tag();
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&user, &tag];
        params.extend(self.arguments.iter().map(|argument| &**argument));
        column(&lease.ask(statement, &params).await?, 1)
    }
}

fn texts(ids: &[String]) -> Vec<&str> {
    ids.iter().map(String::as_str).collect()
}

/// The changes as steps, and how many group numbers they give or leave out. A list that has a conversation's marks twice makes
/// several steps: no statement can change a row twice.
fn steps(commit: &Commit, version: Version) -> (Vec<Step<'_>>, i64) {
    let changes = &commit.changes;
    let mut positions = Positions::of(version);
    let mut left_out = commit.skip.group_ids.iter().map(|&count| i64::from(count));
    let created = changes.iter().filter(|change| matches!(change, Change::GroupCreated { .. })).count();
    let taken = left_out.clone().take(created + 1).sum::<i64>() + i64::try_from(created).unwrap_or(i64::MAX);
    let mut number = 0;
    let mut steps = Vec::with_capacity(changes.len());
    for change in changes {
        let kind = Kind::of(change);
        let arguments: Vec<Box<dyn ToSql + Sync + '_>> = match change {
            Change::GroupCreated { group_name, conversation_list } => {
                number += left_out.next().unwrap_or_default() + 1;
                let after = taken - number;
                let first = places(&mut positions, conversation_list.len());
                vec![
                    Box::new(group_name.as_str()),
                    Box::new(after),
                    Box::new(texts(conversation_list)),
                    Box::new(first),
                ]
            }
            Change::GroupDeleted { group_name } => vec![Box::new(group_name.as_str())],
            Change::GroupRenamed { old_name, new_name } => {
                vec![Box::new(old_name.as_str()), Box::new(new_name.as_str())]
            }
            Change::ConversationsAdded { group_name, conversation_list } => {
                let first = places(&mut positions, conversation_list.len());
                vec![Box::new(group_name.as_str()), Box::new(texts(conversation_list)), Box::new(first)]
            }
            Change::ConversationsDeleted { group_name, conversation_list, .. } => {
                vec![Box::new(group_name.as_str()), Box::new(texts(conversation_list))]
            }
            Change::ConversationsChanged { conversation_list } => {
                steps.extend(noted(conversation_list, &mut positions));
                continue;
            }
        };
        steps.push(Step { kind, arguments });
    }
    (steps, taken)
}

/// Takes this many places; answers the first.
fn places(positions: &mut Positions, count: usize) -> i64 {
    let mut places = (0..count).map(|_| positions.take());
    let first = places.next().unwrap_or_default();
    places.for_each(drop);
    first.cast_signed()
}

/// A list of marks and custom data, cut before each conversation that is repeated.
fn noted<'a>(list: &'a [ConversationData], positions: &mut Positions) -> Vec<Step<'a>> {
    let mut steps = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let mut seen = HashSet::new();
        let unique = rest.iter().take_while(|data| seen.insert(data.conversation_id.as_str())).count();
        let (now, later) = rest.split_at(unique);
        rest = later;
        let (mut ids, mut marks, mut texts, mut places, mut cleared) = (vec![], vec![], vec![], vec![], vec![]);
        for data in now {
            let place = positions.take().cast_signed();
            if data.is_none() {
                cleared.push(data.conversation_id.as_str());
            } else {
                ids.push(data.conversation_id.as_str());
                marks.push(data.marks.cast_signed());
                texts.push(data.custom_data.as_str());
                places.push(place);
            }
        }
        let arguments: Vec<Box<dyn ToSql + Sync + 'a>> =
            vec![Box::new(ids), Box::new(marks), Box::new(texts), Box::new(places), Box::new(cleared)];
        steps.push(Step { kind: Kind::Noted, arguments });
    }
    steps
}

//! Questions to the file, each answered from one moment.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::history;
use crate::model::{ConversationData, EventId, GroupState, History, LoggedChange, UserId, UserState, Version};
use crate::store::record;
use crate::store::{
    Changes, GroupEntry, GroupList, HeldAndSize, MAX_BATCH, MAX_PAGE, Member, Memberships, Versioned, log_reaches,
};

type Read<T> = rusqlite::Result<T>;

/// A user's row. The file numbers users from 1.
struct UserRow {
    id: i64,
    version: Version,
}

pub(super) fn groups(connection: &mut Connection, user: &UserId) -> Read<Versioned<GroupList>> {
    with_user(connection, user, GroupList::default, |transaction, user| {
        let mut created = transaction.prepare_cached("SELECT groups_created FROM users WHERE id = ?1")?;
        let created = created.query_row([user], |row| row.get(0))?;
        let groups = group_rows(transaction, user)?.into_iter().map(|(_, group)| group).collect();
        Ok(GroupList { groups, created })
    })
}

pub(super) fn contains(
    connection: &mut Connection,
    user: &UserId,
    group_name: &str,
    ids: &[&str],
) -> Read<Versioned<Option<Vec<bool>>>> {
    with_user(
        connection,
        user,
        || None,
        |transaction, user| {
            let Some(group) = group_id(transaction, user, group_name)? else { return Ok(None) };
            held(transaction, group, ids).map(Some)
        },
    )
}

pub(super) fn contains_and_size(
    connection: &mut Connection,
    user: &UserId,
    group_name: &str,
    ids: &[&str],
) -> Read<Versioned<Option<HeldAndSize>>> {
    with_user(
        connection,
        user,
        || None,
        |transaction, user| {
            let Some(group) = group_id(transaction, user, group_name)? else { return Ok(None) };
            let mut count = transaction.prepare_cached("SELECT count(*) FROM members WHERE group_id = ?1")?;
            let size = count.query_row([group], |row| row.get(0))?;
            Ok(Some((held(transaction, group, ids)?, size)))
        },
    )
}

fn held(transaction: &Transaction<'_>, group: i64, ids: &[&str]) -> Read<Vec<bool>> {
    ids.iter().map(|id| holds(transaction, group, id)).collect()
}

pub(super) fn page(
    connection: &mut Connection,
    user: &UserId,
    group_name: Option<&str>,
    after: u64,
    limit: u32,
) -> Read<Versioned<Option<Vec<Member>>>> {
    let (after, limit) = page_bounds(after, limit);
    with_user(
        connection,
        user,
        || group_name.is_none().then(Vec::new),
        |transaction, user| {
            let Some(group_name) = group_name else {
                let mut members = transaction.prepare_cached(
                    "SELECT conversation_id, min(position) AS earliest FROM (
                     SELECT conversation_id, position FROM members
                     WHERE group_id IN (SELECT id FROM groups WHERE user = ?1)
                     UNION ALL SELECT conversation_id, position FROM conversations WHERE user = ?1
                 ) GROUP BY conversation_id HAVING earliest > ?2 ORDER BY earliest LIMIT ?3",
                )?;
                return members.query_map(params![user, after, limit], member)?.collect::<Read<_>>().map(Some);
            };
            let Some(group) = group_id(transaction, user, group_name)? else { return Ok(None) };
            let mut members = transaction.prepare_cached(
                "SELECT conversation_id, position FROM members
             WHERE group_id = ?1 AND position > ?2 ORDER BY position LIMIT ?3",
            )?;
            members.query_map(params![group, after, limit], member)?.collect::<Read<_>>().map(Some)
        },
    )
}

pub(super) fn memberships(
    connection: &mut Connection,
    user: &UserId,
    ids: &[&str],
    limit: usize,
) -> Read<Versioned<Option<Memberships>>> {
    with_user(
        connection,
        user,
        || Some(Memberships { groups: Vec::new(), held: vec![Vec::new(); ids.len()] }),
        |transaction, user| {
            let groups = group_rows(transaction, user)?;
            let mut indices: Vec<(i64, u32)> = groups.iter().map(|(group, _)| *group).zip(0..).collect();
            indices.sort_unstable();
            // The groups are the outer loop, each of which is asked for the ID: there is no index by ID alone.
            let mut holding = transaction.prepare_cached(
                "SELECT members.group_id FROM groups CROSS JOIN members
                 ON members.group_id = groups.id AND members.conversation_id = ?2 WHERE groups.user = ?1",
            )?;
            let mut found = 0;
            let mut held = Vec::with_capacity(ids.len());
            for id in ids {
                let mut holders = Vec::new();
                let mut rows = holding.query(params![user, id])?;
                while let Some(row) = rows.next()? {
                    found += 1;
                    if found > limit {
                        return Ok(None);
                    }
                    let group: i64 = row.get(0)?;
                    let place = indices.binary_search_by_key(&group, |(group, _)| *group).ok();
                    holders.extend(place.and_then(|place| indices.get(place)).map(|(_, index)| *index));
                }
                holders.sort_unstable();
                held.push(holders);
            }
            Ok(Some(Memberships { groups: groups.into_iter().map(|(_, entry)| entry.name).collect(), held }))
        },
    )
}

pub(super) fn data(connection: &mut Connection, user: &UserId, ids: &[&str]) -> Read<Versioned<Vec<ConversationData>>> {
    with_user(connection, user, || no_data(ids), |transaction, user| data_of(transaction, user, ids))
}

pub(super) fn data_and_count(
    connection: &mut Connection,
    user: &UserId,
    ids: &[&str],
) -> Read<Versioned<(Vec<ConversationData>, u32)>> {
    with_user(
        connection,
        user,
        || (no_data(ids), 0),
        |transaction, user| {
            let mut count = transaction.prepare_cached("SELECT count(*) FROM conversations WHERE user = ?1")?;
            let count = count.query_row([user], |row| row.get(0))?;
            Ok((data_of(transaction, user, ids)?, count))
        },
    )
}

fn no_data(ids: &[&str]) -> Vec<ConversationData> {
    ids.iter().map(|&id| ConversationData::none(id)).collect()
}

fn data_of(transaction: &Transaction<'_>, user: i64, ids: &[&str]) -> Read<Vec<ConversationData>> {
    let mut data = transaction.prepare_cached(
        "SELECT conversation_id, marks, custom_data FROM conversations WHERE user = ?1 AND conversation_id = ?2",
    )?;
    let mut of = |id: &&str| {
        let found = data.query_row(params![user, id], conversation_data).optional()?;
        Ok(found.unwrap_or_else(|| ConversationData::none(*id)))
    };
    ids.iter().map(&mut of).collect()
}

pub(super) fn page_of_data(
    connection: &mut Connection,
    user: &UserId,
    after: u64,
    limit: u32,
) -> Read<Versioned<Vec<Member>>> {
    let (after, limit) = page_bounds(after, limit);
    with_user(connection, user, Vec::new, |transaction, user| {
        let mut members = transaction.prepare_cached(
            "SELECT conversation_id, position FROM conversations
             WHERE user = ?1 AND position > ?2 ORDER BY position LIMIT ?3",
        )?;
        members.query_map(params![user, after, limit], member)?.collect()
    })
}

pub(super) fn state(connection: &mut Connection, user: &UserId) -> Read<Versioned<UserState>> {
    with_user(connection, user, UserState::default, state_of)
}

pub(super) fn changes(
    connection: &mut Connection,
    user: &UserId,
    after: EventId,
    limit: u32,
) -> Read<(History, Changes)> {
    with_user_row(connection, user, |transaction, user| {
        let history = history::read(transaction)?;
        let nobody = UserRow { id: 0, version: Version::default() };
        let UserRow { id, version } = user.unwrap_or(nobody);
        let mut oldest = transaction.prepare_cached("SELECT min(version) FROM log WHERE user = ?1")?;
        let oldest: Option<u64> = oldest.query_row([id], |row| row.get(0))?;
        if !log_reaches(after, history, oldest.map(Version), version) {
            let value = state_of(transaction, id)?;
            return Ok((history, Changes::Full(Versioned { version, value })));
        }
        let mut log = transaction.prepare_cached(
            "SELECT version, origin, events FROM log WHERE user = ?1 AND version > ?2 ORDER BY version LIMIT ?3",
        )?;
        let changes = log.query_map(params![id, after.version.0, limit.min(MAX_BATCH)], logged_change)?;
        // What a later version has written and this one cannot say is part of the state.
        let changes = match changes.collect::<Read<Option<_>>>()? {
            Some(changes) => Changes::Since(changes),
            None => Changes::Full(Versioned { version, value: state_of(transaction, id)? }),
        };
        Ok((history, changes))
    })
}

pub(super) fn users(connection: &Connection, after: Option<&UserId>, limit: u32) -> Read<Vec<UserId>> {
    let mut users =
        connection.prepare_cached("SELECT user_id FROM users WHERE user_id > ?1 ORDER BY user_id LIMIT ?2")?;
    // Every id comes after the empty text.
    let after = after.map_or("", UserId::as_str);
    let users = users.query_map(params![after, limit.min(MAX_BATCH)], |row| {
        let id: String = row.get(0)?;
        UserId::new(id).map_err(|error| invalid(0, error))
    })?;
    users.collect()
}

/// Reads inside one transaction, at the user's version; what `nobody` says for a user without groups.
fn with_user<T>(
    connection: &mut Connection,
    user: &UserId,
    nobody: impl FnOnce() -> T,
    read: impl FnOnce(&Transaction<'_>, i64) -> Read<T>,
) -> Read<Versioned<T>> {
    with_user_row(connection, user, |transaction, user| match user {
        None => Ok(Versioned { version: Version::default(), value: nobody() }),
        Some(user) => Ok(Versioned { version: user.version, value: read(transaction, user.id)? }),
    })
}

fn with_user_row<T>(
    connection: &mut Connection,
    user: &UserId,
    read: impl FnOnce(&Transaction<'_>, Option<UserRow>) -> Read<T>,
) -> Read<T> {
    let transaction = connection.transaction()?;
    let row = {
        let mut row = transaction.prepare_cached("SELECT id, version FROM users WHERE user_id = ?1")?;
        let user_row = |row: &Row<'_>| {
            let version = Version(row.get(1)?);
            if version > Version::MAX {
                return Err(rusqlite::Error::IntegralValueOutOfRange(1, i64::MAX));
            }
            Ok(UserRow { id: row.get(0)?, version })
        };
        row.query_row([user.as_str()], user_row).optional()?
    };
    let value = read(&transaction, row)?;
    transaction.commit()?;
    Ok(value)
}

fn state_of(transaction: &Transaction<'_>, user: i64) -> Read<UserState> {
    let mut members =
        transaction.prepare_cached("SELECT conversation_id FROM members WHERE group_id = ?1 ORDER BY position")?;
    let groups = group_rows(transaction, user)?.into_iter().map(|(group, GroupEntry { name: group_name, .. })| {
        let conversation_id_list = members.query_map([group], |row| row.get(0))?.collect::<Read<_>>()?;
        Ok(GroupState { group_name, conversation_id_list })
    });
    let groups = groups.collect::<Read<_>>()?;
    let mut conversations = transaction.prepare_cached(
        "SELECT conversation_id, marks, custom_data FROM conversations WHERE user = ?1 ORDER BY position",
    )?;
    let conversations = conversations.query_map([user], conversation_data)?.collect::<Read<_>>()?;
    Ok(UserState { groups, conversations })
}

/// All groups with the ids of their rows, in the order of creation.
fn group_rows(transaction: &Transaction<'_>, user: i64) -> Read<Vec<(i64, GroupEntry)>> {
    let mut groups =
        transaction.prepare_cached("SELECT id, number, name FROM groups WHERE user = ?1 ORDER BY number")?;
    let entry = |row: &Row<'_>| Ok((row.get(0)?, GroupEntry { id: row.get(1)?, name: row.get(2)? }));
    groups.query_map([user], entry)?.collect()
}

pub(super) fn group_id(connection: &Connection, user: i64, group_name: &str) -> Read<Option<i64>> {
    let mut group = connection.prepare_cached("SELECT id FROM groups WHERE user = ?1 AND name = ?2")?;
    group.query_row(params![user, group_name], |row| row.get(0)).optional()
}

fn holds(connection: &Connection, group: i64, id: &str) -> Read<bool> {
    connection
        .prepare_cached("SELECT 1 FROM members WHERE group_id = ?1 AND conversation_id = ?2")?
        .exists(params![group, id])
}

/// The bounds of a page as the file knows them.
fn page_bounds(after: u64, limit: u32) -> (i64, u32) {
    // A place beyond what the file can hold has nothing after it.
    (i64::try_from(after).unwrap_or(i64::MAX), limit.min(MAX_PAGE))
}

fn conversation_data(row: &Row<'_>) -> Read<ConversationData> {
    let marks: i64 = row.get(1)?;
    Ok(ConversationData { conversation_id: row.get(0)?, marks: marks.cast_unsigned(), custom_data: row.get(2)? })
}

fn member(row: &Row<'_>) -> Read<Member> {
    Ok(Member { conversation_id: row.get(0)?, position: row.get(1)? })
}

/// `None` for a record of a later version.
fn logged_change(row: &Row<'_>) -> Read<Option<LoggedChange>> {
    let (origin, events): (String, String) = (row.get(1)?, row.get(2)?);
    let version = Version(row.get(0)?);
    let origin = record::decode_origin(&origin).map_err(|error| invalid(1, error))?;
    let events = record::decode_events(&events).map_err(|error| invalid(2, error))?;
    Ok(events.map(|events| LoggedChange { version, origin, events }))
}

/// Something in the file is not what this program writes.
pub(super) fn invalid(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

//! Questions to the database. Each is one statement, and so answers from one moment.

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

use super::history;
use super::statement::{Statement, Trouble, column};
use crate::model::{ConversationData, EventId, GroupState, History, LoggedChange, UserId, UserState, Version};
use crate::store::record;
use crate::store::{Changes, GroupEntry, GroupList, HeldAndSize, Member, Memberships, Versioned, log_reaches};

/// The statements. `$1` is the user, but for those about all users.
#[derive(Debug)]
pub(super) struct Questions {
    pub(super) groups: Statement,
    pub(super) contains: Statement,
    pub(super) contains_and_size: Statement,
    pub(super) page: Statement,
    pub(super) page_of_all: Statement,
    pub(super) memberships: Statement,
    pub(super) data: Statement,
    pub(super) data_and_count: Statement,
    pub(super) page_of_data: Statement,
    pub(super) state: Statement,
    pub(super) changes: Statement,
    pub(super) commit: Statement,
    pub(super) users: Statement,
    pub(super) versions: Statement,
    pub(super) health: Statement,
}

/// Which of the ids `$3` the group holds.
const HELD: &str = "ARRAY(SELECT conversation_id FROM convgroups.members
    WHERE user_id = $1 AND group_number = GROUP_NUMBER AND conversation_id = ANY($3))";

/// What the ids `$2` have, and its columns.
const FOUND_DATA: &str = "WITH found AS (
        SELECT conversation_id, marks, custom_data FROM convgroups.conversations
        WHERE user_id = $1 AND conversation_id = ANY($2)
    )";
const DATA: &str = "ARRAY(SELECT conversation_id FROM found ORDER BY conversation_id),
    ARRAY(SELECT marks FROM found ORDER BY conversation_id),
    ARRAY(SELECT custom_data FROM found ORDER BY conversation_id)";

impl Questions {
    /// `elsewhere` says whether the history was begun in another database.
    pub(super) fn new(elsewhere: &str) -> Self {
        let (text, texts, number) = (Type::TEXT, Type::TEXT_ARRAY, Type::INT8);
        let of_user = |rest: &str, types: &[Type]| {
            let version = "SELECT version FROM convgroups.users WHERE user_id = $1";
            let types: Vec<Type> = [text.clone()].iter().chain(types).cloned().collect();
            Statement::new(&rest.replacen("VERSION", &format!("TAG, ({version})"), 1), &types)
        };
        let group = "(SELECT number FROM convgroups.groups WHERE user_id = $1 AND name = $2)";
        let in_group = |rest: &str, types: &[Type]| of_user(&rest.replace("GROUP_NUMBER", group), types);
        Self {
            groups: of_user(
                "SELECT VERSION, (SELECT groups_created FROM convgroups.users WHERE user_id = $1),
                 ARRAY(SELECT number FROM convgroups.groups WHERE user_id = $1 ORDER BY number),
                 ARRAY(SELECT name FROM convgroups.groups WHERE user_id = $1 ORDER BY number)",
                &[],
            ),
            contains: in_group(&format!("SELECT VERSION, GROUP_NUMBER, {HELD}"), &[text.clone(), texts.clone()]),
            contains_and_size: in_group(
                &format!(
                    "SELECT VERSION, GROUP_NUMBER, {HELD},
                     (SELECT count(*) FROM convgroups.members WHERE user_id = $1 AND group_number = GROUP_NUMBER)"
                ),
                &[text.clone(), texts.clone()],
            ),
            page: in_group(
                "WITH page AS (
                     SELECT conversation_id, position FROM convgroups.members
                     WHERE user_id = $1 AND group_number = GROUP_NUMBER AND position > $3
                     ORDER BY position LIMIT $4
                 )
                 SELECT VERSION, GROUP_NUMBER,
                 ARRAY(SELECT conversation_id FROM page ORDER BY position),
                 ARRAY(SELECT position FROM page ORDER BY position)",
                &[text.clone(), number.clone(), number.clone()],
            ),
            page_of_all: of_user(
                "WITH page AS (
                     SELECT conversation_id, min(position) AS position FROM (
                         SELECT conversation_id, position FROM convgroups.members WHERE user_id = $1
                         UNION ALL SELECT conversation_id, position FROM convgroups.conversations WHERE user_id = $1
                     ) AS known GROUP BY conversation_id HAVING min(position) > $2 ORDER BY 2 LIMIT $3
                 )
                 SELECT VERSION, 0::bigint,
                 ARRAY(SELECT conversation_id FROM page ORDER BY position),
                 ARRAY(SELECT position FROM page ORDER BY position)",
                &[number.clone(), number.clone()],
            ),
            memberships: of_user(
                "WITH held AS (
                     SELECT group_number, conversation_id FROM convgroups.members
                     WHERE user_id = $1 AND conversation_id = ANY($2) LIMIT $3
                 ), placed AS (
                     SELECT held.group_number, wanted.place FROM held
                     JOIN unnest($2) WITH ORDINALITY AS wanted (conversation_id, place) USING (conversation_id)
                 )
                 SELECT VERSION,
                 ARRAY(SELECT number FROM convgroups.groups WHERE user_id = $1 ORDER BY number),
                 ARRAY(SELECT name FROM convgroups.groups WHERE user_id = $1 ORDER BY number),
                 ARRAY(SELECT place FROM placed ORDER BY group_number, place),
                 ARRAY(SELECT group_number FROM placed ORDER BY group_number, place)",
                &[texts.clone(), number.clone()],
            ),
            data: of_user(&format!("{FOUND_DATA} SELECT VERSION, {DATA}"), std::slice::from_ref(&texts)),
            data_and_count: of_user(
                &format!(
                    "{FOUND_DATA} SELECT VERSION, {DATA},
                     (SELECT count(*) FROM convgroups.conversations WHERE user_id = $1)"
                ),
                std::slice::from_ref(&texts),
            ),
            page_of_data: of_user(
                "WITH page AS (
                     SELECT conversation_id, position FROM convgroups.conversations
                     WHERE user_id = $1 AND position > $2 ORDER BY position LIMIT $3
                 )
                 SELECT VERSION, 0::bigint,
                 ARRAY(SELECT conversation_id FROM page ORDER BY position),
                 ARRAY(SELECT position FROM page ORDER BY position)",
                &[number.clone(), number.clone()],
            ),
            state: of_user(
                "SELECT VERSION,
                 ARRAY(SELECT number FROM convgroups.groups WHERE user_id = $1 ORDER BY number),
                 ARRAY(SELECT name FROM convgroups.groups WHERE user_id = $1 ORDER BY number),
                 ARRAY(SELECT group_number FROM convgroups.members WHERE user_id = $1 ORDER BY group_number, position),
                 ARRAY(SELECT conversation_id FROM convgroups.members WHERE user_id = $1 ORDER BY group_number, position),
                 ARRAY(SELECT conversation_id FROM convgroups.conversations WHERE user_id = $1 ORDER BY position),
                 ARRAY(SELECT marks FROM convgroups.conversations WHERE user_id = $1 ORDER BY position),
                 ARRAY(SELECT custom_data FROM convgroups.conversations WHERE user_id = $1 ORDER BY position)",
                &[],
            ),
            changes: of_user(
                "WITH recent AS (
                     SELECT version, origin, events FROM convgroups.log
                     WHERE user_id = $1 AND version > $2 ORDER BY version LIMIT $3
                 )
                 SELECT VERSION,
                 (SELECT min(version) FROM convgroups.log WHERE user_id = $1),
                 ARRAY(SELECT version FROM recent ORDER BY version),
                 ARRAY(SELECT origin FROM recent ORDER BY version),
                 ARRAY(SELECT events FROM recent ORDER BY version),
                 (SELECT identity FROM convgroups.history), ELSEWHERE"
                    .replace("ELSEWHERE", elsewhere)
                    .as_str(),
                &[number.clone(), number.clone()],
            ),
            commit: of_user(
                "SELECT VERSION,
                 (SELECT token FROM convgroups.log WHERE user_id = $1 AND version = $2),
                 (SELECT min(version) FROM convgroups.log WHERE user_id = $1)",
                std::slice::from_ref(&number),
            ),
            users: Statement::new(
                "SELECT TAG, ARRAY(SELECT user_id FROM convgroups.users WHERE user_id > $1 ORDER BY user_id LIMIT $2)",
                &[text.clone(), number],
            ),
            versions: Statement::new(
                "WITH found AS (SELECT user_id, version FROM convgroups.users WHERE user_id = ANY($1))
                 SELECT TAG,
                 ARRAY(SELECT user_id FROM found ORDER BY user_id),
                 ARRAY(SELECT version FROM found ORDER BY user_id)",
                &[texts],
            ),
            health: Statement::new(
                "SELECT TAG, pg_is_in_recovery(), (SELECT count(*) FROM convgroups.schema_version)",
                &[],
            ),
        }
    }
}

type Decoded<T> = Result<T, Trouble>;

/// The user's version, in the column after the tag; nothing for a user nobody has changed anything for.
pub(super) fn version(row: &Row) -> Decoded<Option<Version>> {
    column::<Option<i64>>(row, 1)?.map(checked_version).transpose()
}

fn checked_version(number: i64) -> Decoded<Version> {
    let version = u64::try_from(number).map(Version).ok().filter(|version| *version <= Version::MAX);
    version.ok_or_else(|| Trouble::Unreadable(format!("{number} is no version")))
}

/// A value at the user's version.
pub(super) fn versioned<T>(row: &Row, decode: impl FnOnce(&Row) -> Decoded<T>) -> Decoded<Versioned<T>> {
    Ok(Versioned { version: version(row)?.unwrap_or_default(), value: decode(row)? })
}

pub(super) fn groups(row: &Row) -> Decoded<GroupList> {
    let created = column::<Option<i64>>(row, 2)?.unwrap_or_default();
    let groups = column::<Vec<i64>>(row, 3)?.into_iter().zip(column::<Vec<String>>(row, 4)?);
    let groups = groups.map(|(id, name)| Ok(GroupEntry { id: unsigned(id)?, name })).collect::<Decoded<_>>()?;
    Ok(GroupList { groups, created: unsigned(created)? })
}

/// Nothing when there is no such group.
fn of_group<T>(row: &Row, decode: impl FnOnce(&Row) -> Decoded<T>) -> Decoded<Option<T>> {
    column::<Option<i64>>(row, 2)?.map(|_| decode(row)).transpose()
}

pub(super) fn contains(row: &Row, ids: &[&str]) -> Decoded<Option<Vec<bool>>> {
    of_group(row, |row| held(row, ids))
}

pub(super) fn contains_and_size(row: &Row, ids: &[&str]) -> Decoded<Option<HeldAndSize>> {
    of_group(row, |row| Ok((held(row, ids)?, count(row, 4)?)))
}

fn held(row: &Row, ids: &[&str]) -> Decoded<Vec<bool>> {
    let held: std::collections::HashSet<&str> = column::<Vec<&str>>(row, 3)?.into_iter().collect();
    Ok(ids.iter().map(|id| held.contains(id)).collect())
}

pub(super) fn page(row: &Row) -> Decoded<Option<Vec<Member>>> {
    of_group(row, |row| {
        let members = column::<Vec<String>>(row, 3)?.into_iter().zip(column::<Vec<i64>>(row, 4)?);
        members
            .map(|(conversation_id, position)| Ok(Member { conversation_id, position: unsigned(position)? }))
            .collect()
    })
}

/// For `ids` IDs the groups that hold each; nothing when there are more than `limit` memberships.
pub(super) fn memberships(row: &Row, ids: usize, limit: usize) -> Decoded<Option<Memberships>> {
    let numbers = column::<Vec<i64>>(row, 2)?;
    let groups = column::<Vec<String>>(row, 3)?;
    let (places, holders) = (column::<Vec<i64>>(row, 4)?, column::<Vec<i64>>(row, 5)?);
    if places.len() > limit {
        return Ok(None);
    }
    let mut held = vec![Vec::new(); ids];
    for (place, group) in places.into_iter().zip(holders) {
        let unreadable =
            || Trouble::Unreadable(format!("there are conversations in group {group}, which is not there"));
        let index = numbers.binary_search(&group).ok().and_then(|index| u32::try_from(index).ok());
        let index = index.ok_or_else(unreadable)?;
        // The database counts from 1.
        let place = usize::try_from(place).ok().and_then(|place| place.checked_sub(1));
        held.get_mut(place.unwrap_or(usize::MAX)).ok_or_else(unreadable)?.push(index);
    }
    Ok(Some(Memberships { groups, held }))
}

pub(super) fn data(row: &Row, ids: &[&str]) -> Decoded<Vec<ConversationData>> {
    let found = conversations(row, 2)?;
    let find = |id: &str| {
        let place = found.binary_search_by(|data| data.conversation_id.as_str().cmp(id)).ok();
        place.and_then(|place| found.get(place)).cloned().unwrap_or_else(|| ConversationData::none(id))
    };
    Ok(ids.iter().map(|id| find(id)).collect())
}

/// Conversations from three columns, the first of which is at `index`.
fn conversations(row: &Row, index: usize) -> Decoded<Vec<ConversationData>> {
    let ids = column::<Vec<String>>(row, index)?;
    let noted = column::<Vec<i64>>(row, index + 1)?.into_iter().zip(column::<Vec<String>>(row, index + 2)?);
    let conversation = |(conversation_id, (marks, custom_data)): (String, (i64, String))| ConversationData {
        conversation_id,
        marks: marks.cast_unsigned(),
        custom_data,
    };
    Ok(ids.into_iter().zip(noted).map(conversation).collect())
}

/// A number of rows.
pub(super) fn count(row: &Row, index: usize) -> Decoded<u32> {
    unsigned(column::<i64>(row, index)?)
}

pub(super) fn state(row: &Row) -> Decoded<UserState> {
    let names = column::<Vec<i64>>(row, 2)?.into_iter().zip(column::<Vec<String>>(row, 3)?);
    let mut members = column::<Vec<i64>>(row, 4)?.into_iter().zip(column::<Vec<String>>(row, 5)?).peekable();
    let mut groups = Vec::new();
    for (number, group_name) in names {
        let mut conversation_id_list = Vec::new();
        while let Some((_, id)) = members.next_if(|(group, _)| *group == number) {
            conversation_id_list.push(id);
        }
        groups.push(GroupState { group_name, conversation_id_list });
    }
    if let Some((group, _)) = members.next() {
        return Err(Trouble::Unreadable(format!("there are conversations in group {group}, which is not there")));
    }
    Ok(UserState { groups, conversations: conversations(row, 6)? })
}

/// The history, whether it was begun in another database, and the changes after an event; `None` if the change log does not reach,
/// or has a record of a later version.
pub(super) fn changes(row: &Row, after: EventId) -> Decoded<(History, bool, Option<Changes>)> {
    let history = column::<Option<&str>>(row, 6)?.map(history::decode).transpose()?;
    let history = history.ok_or_else(|| Trouble::Unreadable("the table convgroups.history is empty".to_owned()))?;
    let elsewhere = column::<Option<bool>>(row, 7)?.unwrap_or_default();
    let current = version(row)?.unwrap_or_default();
    let oldest = column::<Option<i64>>(row, 2)?.map(checked_version).transpose()?;
    if !log_reaches(after, history, oldest, current) {
        return Ok((history, elsewhere, None));
    }
    let logged = column::<Vec<&str>>(row, 4)?.into_iter().zip(column::<Vec<&str>>(row, 5)?);
    let changes = column::<Vec<i64>>(row, 3)?.into_iter().zip(logged).map(|(version, (origin, events))| {
        let version = checked_version(version)?;
        let origin = record::decode_origin(origin).map_err(unreadable)?;
        let events = record::decode_events(events).map_err(unreadable)?;
        Ok(events.map(|events| LoggedChange { version, origin, events }))
    });
    Ok((history, elsewhere, changes.collect::<Decoded<Option<_>>>()?.map(Changes::Since)))
}

pub(super) fn users(row: &Row) -> Decoded<Vec<UserId>> {
    let ids = column::<Vec<String>>(row, 1)?;
    ids.into_iter().map(|id| UserId::new(id).map_err(|error| Trouble::Unreadable(error.to_string()))).collect()
}

/// Users and their versions.
pub(super) fn versions(row: &Row) -> Decoded<Vec<(String, i64)>> {
    Ok(column::<Vec<String>>(row, 1)?.into_iter().zip(column::<Vec<i64>>(row, 2)?).collect())
}

/// What the log says of a version: the token of the commit that led to it, if it is there, and the oldest version there.
pub(super) fn logged(row: &Row) -> Decoded<(Option<Vec<u8>>, Option<Version>)> {
    let oldest = column::<Option<i64>>(row, 3)?.map(checked_version).transpose()?;
    Ok((column(row, 2)?, oldest))
}

fn unsigned<T, U: TryFrom<T>>(number: T) -> Decoded<U>
where
    T: Copy + std::fmt::Display + for<'a> FromSql<'a>,
{
    U::try_from(number).map_err(|_| Trouble::Unreadable(format!("{number} is out of its range")))
}

fn unreadable(error: impl std::fmt::Display) -> Trouble {
    Trouble::Unreadable(error.to_string())
}

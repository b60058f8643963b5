//! The codes that refusals and failures of a call carry, with Tencent Cloud Chat's numbers where it has them (REST error codes,
//! document 1047/34348). 0 is success. A plugin may refuse with any other code too.

/// A parameter is missing, unknown, of the wrong type or out of its range; or a name is taken.
pub const INVALID_PARAMETER: i32 = 50002;
/// The plugin, the store or the host failed.
pub const INTERNAL: i32 = 50004;
/// The call took too long.
pub const TIMED_OUT: i32 = 50005;
/// A list of conversations is empty or too long.
pub const BATCH_SIZE: i32 = 51006;
/// There would be too many conversations in a group, or with annotations.
pub const TOO_MANY_CONVERSATIONS: i32 = 51008;
/// No group has this name.
pub const NO_SUCH_GROUP: i32 = 51009;
/// The user would have too many groups.
pub const TOO_MANY_GROUPS: i32 = 51010;
/// A group's name is too long.
pub const NAME_TOO_LONG: i32 = 51011;
/// The request is not JSON of the expected form.
pub const MALFORMED_JSON: i32 = 60003;
/// There are too many calls.
pub const OVERLOADED: i32 = 60018;

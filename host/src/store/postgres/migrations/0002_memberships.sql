-- For people: the groups by name.
CREATE VIEW convgroups.memberships AS
SELECT members.user_id, groups.name AS group_name, members.conversation_id, members.position
FROM convgroups.members
JOIN convgroups.groups ON groups.user_id = members.user_id AND groups.number = members.group_number;

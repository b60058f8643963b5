;; Passes the name of a group that is no UTF-8.
(data (i32.const 512) "\ff\fe\fa")
(func $attack (param $name i32) (param $name_len i32) (param $ids i32) (param $count i32) (result i32)
  (call $remove_conversations
    (i32.const 512) (i32.const 3) (local.get $ids) (local.get $count) (i32.const 64))
  (call $answer (local.get $ids) (local.get $count)))

;; Passes a list of ids that is where there is no memory.
(func $attack (param $name i32) (param $name_len i32) (param $ids i32) (param $count i32) (result i32)
  (call $remove_conversations
    (local.get $name) (local.get $name_len) (i32.const 0x7ffffff0) (i32.const 1000) (i32.const 64))
  (call $answer (local.get $ids) (local.get $count)))

;; Asks the host something, and wants the answer's list where there is no memory.
(func $attack (param $name i32) (param $name_len i32) (param $ids i32) (param $count i32) (result i32)
  (call $list_groups (i32.const -8))
  (call $answer (local.get $ids) (local.get $count)))

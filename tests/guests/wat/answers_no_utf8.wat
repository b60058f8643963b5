;; Answers a remark that is no UTF-8.
(data (i32.const 512) "\ff\fe\fa")
(func $attack (param $name i32) (param $name_len i32) (param $ids i32) (param $count i32) (result i32)
  (local $result i32)
  (drop (call $answer (local.get $ids) (local.get $count)))
  (local.set $result (i32.load (i32.const 20)))
  (i32.store offset=12 (local.get $result) (i32.const 512))
  (i32.store offset=16 (local.get $result) (i32.const 3))
  (i32.const 16))

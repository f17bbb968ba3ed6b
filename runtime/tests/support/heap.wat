;; Counts in its memory alone: what it has said is nowhere else. "get" tells the count, any other
;; message adds one.
(module
  (import "odeum" "reply" (func $reply (param i32 i32)))
  (memory (export "memory") 4)
  (global $count (mut i64) (i64.const 0))
  (func (export "odeum_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "odeum_handle") (param $ptr i32) (param $len i32) (result i32)
    (local $at i32) (local $rest i64)
    (if (i32.ne (local.get $len) (i32.const 3))
      (then (global.set $count (i64.add (global.get $count) (i64.const 1)))))
    ;; Also where only the memory has it: the two must be the same for ever.
    (if (i32.ne (local.get $len) (i32.const 3))
      (then (i64.store (i32.const 70000)
        (i64.add (i64.load (i32.const 70000)) (i64.const 1)))))
    (if (i64.ne (i64.load (i32.const 70000)) (global.get $count)) (then unreachable))
    (local.set $at (i32.const 900))
    (local.set $rest (global.get $count))
    (loop $digit
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at)
        (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $rest) (i64.const 10)))))
      (local.set $rest (i64.div_u (local.get $rest) (i64.const 10)))
      (br_if $digit (i64.ne (local.get $rest) (i64.const 0))))
    (call $reply (local.get $at) (i32.sub (i32.const 900) (local.get $at)))
    (i32.const 0)))

;; Takes its time for each message: a third of a second. It replies with how many it has handled.
(module
  (import "odeum" "reply" (func $reply (param i32 i32)))
  (import "odeum" "monotonic" (func $monotonic (result i64)))
  (memory (export "memory") 4)
  (data (i32.const 32) "0")
  (func (export "odeum_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "odeum_handle") (param $ptr i32) (param $len i32) (result i32)
    (local $end i64)
    (if (i32.ne (local.get $len) (i32.const 3)) (then
      (local.set $end (i64.add (call $monotonic) (i64.const 300000000)))
      (loop $wait (br_if $wait (i64.lt_u (call $monotonic) (local.get $end))))
      (i32.store8 (i32.const 32) (i32.add (i32.load8_u (i32.const 32)) (i32.const 1)))))
    (call $reply (i32.const 32) (i32.const 1))
    (i32.const 0)))

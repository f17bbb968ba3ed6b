;; Waits for others, and has in its memory alone what came of that. "ask" asks the firmware `slow` eight
;; times, sets a timer of a second and subscribes to a topic; "publish" publishes under it; any other message
;; tells the counts: of replies and of other outcomes, of timers and of publications.
(module
  (import "odeum" "reply" (func $reply (param i32 i32)))
  (import "odeum" "ask" (func $ask (param i32 i32 i32 i32 i32) (result i64)))
  (import "odeum" "set_timer" (func $set_timer (param i64) (result i64)))
  (import "odeum" "subscribe" (func $subscribe (param i32 i32) (result i32)))
  (import "odeum" "publish" (func $publish (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (data (i32.const 0) "slow")
  (data (i32.const 16) "news")
  ;; One digit for each.
  (data (i32.const 32) "0000")
  (func $count (param $at i32)
    (i32.store8 (local.get $at) (i32.add (i32.load8_u (local.get $at)) (i32.const 1))))
  (func (export "odeum_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "odeum_on_answer") (param i64 i32 i32 i32) (result i32)
    (call $count (select (i32.const 33) (i32.const 32) (local.get 1)))
    (i32.const 0))
  (func (export "odeum_on_timer") (param i64) (result i32)
    (call $count (i32.const 34))
    (i32.const 0))
  (func (export "odeum_on_published") (param i32 i32 i32 i32) (result i32)
    (call $count (i32.const 35))
    (i32.const 0))
  (func (export "odeum_handle") (param $ptr i32) (param $len i32) (result i32)
    (local $left i32)
    (if (i32.eq (i32.load8_u (local.get $ptr)) (i32.const 97)) (then
      (local.set $left (i32.const 8))
      (loop $more
        (drop (call $ask (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 4)
          (i32.const 30000)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if $more (local.get $left)))
      (drop (call $set_timer (i64.const 1000)))
      (drop (call $subscribe (i32.const 16) (i32.const 4)))))
    (if (i32.eq (i32.load8_u (local.get $ptr)) (i32.const 112)) (then
      (drop (call $publish (i32.const 16) (i32.const 4) (i32.const 0) (i32.const 4)))))
    (call $reply (i32.const 32) (i32.const 4))
    (i32.const 0)))

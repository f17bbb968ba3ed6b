%% Both nodes of the Erlang side of `odeum-loadtest vs erlang`, over the distribution as it is.
%%
%% `hold` runs a registered counter; `drive HOLDER` reads workloads, a line each, and answers each
%% with a line, as the Rust drivers do (loadtest/src/vs/workload.rs has both forms). Each node ends
%% when its standard input does.
-module(odeum_peer).
-behaviour(gen_server).
-export([main/1, init/1, handle_cast/2, handle_call/3]).

%% No answer takes longer on a machine that works.
-define(PATIENCE, 60000).

main([hold]) ->
    Options = [{spawn_opt, [{message_queue_data, off_heap}]}],
    {ok, _} = gen_server:start({local, counter}, ?MODULE, 0, Options),
    io:format("ready ~s~n", [node()]),
    until_end();
main([drive, Holder]) ->
    pong = net_adm:ping(Holder),
    io:format("ready ~s~n", [node()]),
    drive({counter, Holder}).

until_end() ->
    case io:get_line("") of
        eof -> halt(0, [{flush, false}]);
        _ -> until_end()
    end.

%% Counts tells, echoes asks, takes blobs.
init(N) -> {ok, N}.

handle_cast(_Body, N) -> {noreply, N + 1}.

handle_call({ask, Body}, _From, N) -> {reply, Body, N};
handle_call({blob, Body}, _From, N) -> {reply, byte_size(Body), N};
handle_call(count, _From, N) -> {reply, N, N}.

drive(Counter) ->
    Reader = self(),
    Worker = spawn_link(fun() -> work(Reader, Counter) end),
    read(Worker).

%% Reads while a workload runs, so that the end of the input is seen at once.
read(Worker) ->
    case io:get_line("") of
        eof -> halt(0, [{flush, false}]);
        Line -> Worker ! {line, string:lexemes(Line, " \n")}, read(Worker)
    end.

work(Reader, Counter) ->
    receive
        {line, Words} ->
            {Rate, P50, P99} = workload(Words, Counter),
            io:format("done ~.3f ~.3f ~.3f~n", [float(Rate), float(P50), float(P99)]),
            work(Reader, Counter)
    end.

workload(["tell" | Numbers], Counter) ->
    [Size, Count] = numbers(Numbers),
    Body = body(Size),
    Before = request(Counter, count),
    {Micros, ok} = timer:tc(fun() ->
        tell(Counter, Body, Count),
        Before1 = Before + Count,
        Before1 = request(Counter, count),
        ok
    end),
    {per_second(Count, Micros), 0, 0};
workload(["ask" | Numbers], Counter) ->
    [Size, InFlight, Count] = numbers(Numbers),
    Body = body(Size),
    Each = max(1, Count div InFlight),
    {Micros, Latencies} = timer:tc(fun() ->
        gather([start(fun() -> asks(Counter, Body, Each, []) end) || _ <- lists:seq(1, InFlight)])
    end),
    {P50, P99} = percentiles(lists:append(Latencies)),
    {per_second(Each * InFlight, Micros), P50, P99};
workload(["beside" | Numbers], Counter) ->
    [Size, Blobs, BlobSize, Millis] = numbers(Numbers),
    {Body, Blob} = {body(Size), body(BlobSize)},
    Until = now_us() + Millis * 1000,
    Carriers = [start(fun() -> blobs_until(Counter, Blob, Until) end) || _ <- lists:seq(1, Blobs)],
    Asker = start(fun() -> asks_until(Counter, Body, Until, []) end),
    [Latencies] = gather([Asker]),
    gather(Carriers),
    {P50, P99} = percentiles(Latencies),
    {length(Latencies) * 1000 / Millis, P50, P99};
workload(["bulk" | Numbers], Counter) ->
    [Size, InFlight, Count] = numbers(Numbers),
    Blob = body(Size),
    Each = max(1, Count div InFlight),
    {Micros, _} = timer:tc(fun() ->
        gather([start(fun() -> blobs(Counter, Blob, Each) end) || _ <- lists:seq(1, InFlight)])
    end),
    {per_second(Each * InFlight, Micros), 0, 0}.

%% The distribution holds the sender up by itself, at `+zdbbl`.
tell(_, _, 0) -> ok;
tell(Counter, Body, N) ->
    gen_server:cast(Counter, Body),
    tell(Counter, Body, N - 1).

asks(_, _, 0, Latencies) -> Latencies;
asks(Counter, Body, N, Latencies) -> asks(Counter, Body, N - 1, [ask(Counter, Body) | Latencies]).

asks_until(Counter, Body, Until, Latencies) ->
    case now_us() < Until of
        true -> asks_until(Counter, Body, Until, [ask(Counter, Body) | Latencies]);
        false -> Latencies
    end.

ask(Counter, Body) ->
    Began = erlang:monotonic_time(),
    Body = request(Counter, {ask, Body}),
    erlang:convert_time_unit(erlang:monotonic_time() - Began, native, nanosecond) / 1000.

blobs(_, _, 0) -> ok;
blobs(Counter, Blob, N) ->
    _ = request(Counter, {blob, Blob}),
    blobs(Counter, Blob, N - 1).

blobs_until(Counter, Blob, Until) ->
    case now_us() < Until of
        true -> _ = request(Counter, {blob, Blob}), blobs_until(Counter, Blob, Until);
        false -> ok
    end.

request(Counter, What) -> gen_server:call(Counter, What, ?PATIENCE).

start(Work) ->
    {Parent, Ref} = {self(), make_ref()},
    spawn_link(fun() -> Parent ! {Ref, Work()} end),
    Ref.

gather(Refs) -> [receive {Ref, Result} -> Result end || Ref <- Refs].

percentiles(Latencies) ->
    Sorted = lists:sort(Latencies),
    Last = length(Sorted) - 1,
    {lists:nth(1 + round(Last * 0.5), Sorted), lists:nth(1 + round(Last * 0.99), Sorted)}.

numbers(Words) -> [list_to_integer(Word) || Word <- Words].
body(Size) -> binary:copy(<<7>>, Size).
now_us() -> erlang:monotonic_time(microsecond).
per_second(Count, Micros) -> Count * 1000000 / max(1, Micros).

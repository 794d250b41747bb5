"""What the dashboards show. In queries S stands for the selector of the chosen servers, W for the window of rates."""


def panel(kind, title, about, queries, **more):
    """`queries`: [(legend, PromQL)], or one PromQL without a legend."""
    if isinstance(queries, str):
        queries = [("", queries)]
    full = [(legend, query.replace("[W]", "[$__rate_interval]").replace("{S", '{job=~"$job",instance=~"$instance"'))
            for legend, query in queries]
    return {"kind": kind, "title": title, "about": about, "queries": full, **more}


def graph(*args, **more):
    return panel("timeseries", *args, **more)


def stat(*args, **more):
    return panel("stat", *args, **{"width": 4, **more})


def table(*args, **more):
    return panel("table", *args, **{"width": 12, **more})


def quantiles(histogram, shares=(50, 95, 99), by="le"):
    return [(f"p{share}", f"histogram_quantile({share / 100:g}, sum by ({by}) (rate({histogram}_bucket{{S}}[W])))")
            for share in shares]


def mean(histogram):
    return f"sum(rate({histogram}_sum{{S}}[W])) / sum(rate({histogram}_count{{S}}[W]))"


RANK = "{{instance}} {{replica}}/{{rank}}"
REPLICA = "{{instance}} {{replica}}"
SERVER = "{{instance}}"

SERVING = [
    ("Now", [
        stat("Running", "Requests in batches.", "sum(fulger_requests_running{S})"),
        stat("Waiting", "Requests queued.", "sum(fulger_requests_waiting{S})", thresholds=[(1, "yellow")]),
        stat("Tokens per second", "Generated.", "sum(rate(fulger_generation_tokens_total{S}[W]))"),
        stat("First token, p95", "The worst server's, over five minutes.",
             "max(instance:fulger_time_to_first_token_seconds:p95_5m{S})", unit="s"),
        stat("Between tokens, p95", "The worst server's, over five minutes.",
             "max(instance:fulger_inter_token_latency_seconds:p95_5m{S})", unit="s"),
        stat("Refused", "Share of requests answered 429, over five minutes.",
             "max(instance:fulger_requests_refused:ratio5m{S})", unit="percentunit", max=1,
             thresholds=[(0.01, "red")]),
    ]),
    ("Latency", [
        graph("Time to first token", "From a request's arrival. The goal is the one in rules/goals.yml.",
              [*quantiles("fulger_time_to_first_token_seconds"),
               ("goal (p95)", "fulger_goal:time_to_first_token_seconds")], unit="s"),
        graph("Between tokens", "Of one request.",
              [*quantiles("fulger_inter_token_latency_seconds"),
               ("goal (p95)", "fulger_goal:inter_token_latency_seconds")], unit="s"),
        graph("Whole request", "From arrival to the last token.", quantiles("fulger_request_latency_seconds"), unit="s"),
        graph("Where the time goes", "Means per request: in the queue, over its prompt, generating.",
              [(phase, mean(f"fulger_request_{phase}_seconds")) for phase in ("queue", "prefill", "decode")], unit="s",
              stacked=True),
        graph("Time per output token", "One sample per request: its mean.", quantiles("fulger_time_per_output_token_seconds"),
              unit="s"),
        graph("Queue", "Requests that run and that wait, by replica.",
              [("running " + REPLICA, "fulger_replica_running{S}"), ("waiting " + REPLICA, "fulger_replica_waiting{S}")]),
    ]),
    ("Traffic", [
        graph("Tokens per second", "Of prompts accepted, and generated.",
              [("prompt", "sum(rate(fulger_prompt_tokens_total{S}[W]))"),
               ("generated", "sum(rate(fulger_generation_tokens_total{S}[W]))")]),
        graph("Requests that ended", "Per second, by reason.",
              [("{{finished_reason}}", "sum by (finished_reason) (rate(fulger_requests_finished_total{S}[W]))")],
              unit="reqps", stacked=True),
        graph("Requests refused", "Per second, by reason; overload is 429.",
              [("{{reason}}", "sum by (reason) (rate(fulger_requests_rejected_total{S}[W]))")], unit="reqps",
              stacked=True),
        graph("HTTP answers", "Per second, by route and status.",
              [("{{route}} {{code}}", "sum by (route, code) (rate(fulger_http_requests_total{S}[W]))")], unit="reqps"),
        graph("Prompt length", "Tokens per request.", quantiles("fulger_request_prompt_tokens")),
        graph("Answer length", "Tokens per request, and what was asked for at most (p50).",
              [*quantiles("fulger_request_generation_tokens"),
               ("max_tokens p50", quantiles("fulger_request_max_tokens", (50,))[0][1])]),
    ]),
    ("Caches", [
        graph("KV cache in use", "By running requests; saved prefixes yield to them.",
              [(SERVER, "fulger_kv_cache_usage_ratio{S}")], unit="percentunit", max=1),
        graph("KV blocks", "In use, held by saved prefixes alone, and all there are.",
              [("in use", "sum(fulger_kv_blocks_used{S})"), ("prefixes", "sum(fulger_kv_blocks_cached{S})"),
               ("all", "sum(fulger_kv_blocks{S})")]),
        graph("State slots", "Of lightning attention: one per running sequence and per saved prefix.",
              [("in use", "sum(fulger_state_slots_used{S})"), ("all", "sum(fulger_state_slots{S})")]),
        graph("Prompt tokens from the prefix cache", "Share of prompt tokens that were not computed again.",
              [(SERVER, "instance:fulger_prefix_cache_hit_tokens:ratio5m{S}")], unit="percentunit", max=1),
        graph("Saved prefixes", "Kept, hit and evicted.",
              [("kept", "sum(fulger_anchors{S})"), ("hits per second", "sum(rate(fulger_anchor_hits_total{S}[W]))"),
               ("evictions per second", "sum(rate(fulger_anchor_evictions_total{S}[W]))")]),
        graph("Preemptions", "Requests put back per second: the cache is too small for those that run.",
              [(SERVER, "rate(fulger_preemptions_total{S}[W])")], unit="reqps"),
    ]),
]

RANKS = [
    ("Steps", [
        graph("Steps per second", "Finished.", [(SERVER, "rate(fulger_steps_total{S}[W])")]),
        graph("Step time, p95", "From submission to answer, by what the step holds.",
              [("{{kind}}", "histogram_quantile(0.95, sum by (le, kind) (rate(fulger_step_seconds_bucket{S}[W])))")],
              unit="s"),
        graph("Tokens per step", "How full batches are.", quantiles("fulger_step_tokens", (50, 95))),
    ]),
    ("Where each rank's time goes", [
        graph("Computing", "Share of the time: in steps, neither waiting nor in collectives. On GPUs collectives are in it.",
              [(RANK, "rate(fulger_rank_step_seconds_total{S}[W]) - rate(fulger_rank_wait_seconds_total{S}[W])"
                      " - rate(fulger_rank_collective_seconds_total{S}[W])")], unit="percentunit"),
        graph("Waiting", "Share of the time in steps: for the stage before, sampled tokens or features.",
              [(RANK, "rank:fulger_rank_wait:ratio5m{S}")], unit="percentunit", max=1),
        graph("In collectives", "Share of the time in steps; slower ranks of the stage are waited for here.",
              [(RANK, "rank:fulger_rank_collective:ratio5m{S}")], unit="percentunit", max=1),
        graph("Idle", "Share of the time without a step although sequences were decoding: the coordinator was late.",
              [(RANK, "rate(fulger_rank_idle_seconds_total{S}[W])")], unit="percentunit"),
        graph("Through collectives", "Bytes handed to collectives of the stage.",
              [(RANK, "rate(fulger_rank_collective_bytes_total{S}[W])")], unit="Bps"),
        graph("To other ranks", "Hidden states, sampled tokens, features.",
              [(RANK, "rate(fulger_rank_link_bytes_total{S}[W])")], unit="Bps"),
    ]),
    ("Health and memory", [
        graph("Stalled", "Since a rank that others wait for has moved on.", [(RANK, "fulger_rank_stalled_seconds{S}")], unit="s",
              width=12),
        panel("bargauge", "Memory", "Held on each rank, by what it is for.",
              [(RANK + " {{component}}", "fulger_rank_memory_bytes{S}")], unit="bytes", width=12),
    ]),
]

EXPERTS = [
    ("Balance", [
        stat("Busiest against the mean", "The worst replica's, over half an hour; 1 is even.",
             "max(replica:fulger_expert_rows:imbalance30m{S})", thresholds=[(2, "yellow"), (4, "red")], width=8),
        stat("Rows per second", "Over all layers and experts.", "sum(rate(fulger_expert_rows_total{S}[W]))", width=8),
        stat("Experts without a row", "In the last half hour.",
             "count(increase(fulger_expert_rows_total{S}[30m]) == 0) or vector(0)", width=8),
        graph("Imbalance", "The busiest expert's rows against the mean.",
              [(REPLICA, "replica:fulger_expert_rows:imbalance30m{S}")], width=12),
        graph("Imbalance now", "The same over a short window.",
              [(REPLICA, "max without (expert) (rate(fulger_expert_rows_total{S}[W]))"
                         " / avg without (expert) (rate(fulger_expert_rows_total{S}[W]))")], width=12),
    ]),
    ("By expert", [
        panel("bargauge", "Share of rows", "Of the last half hour, all replicas together.",
              [("{{expert}}", "sum by (expert) (increase(fulger_expert_rows_total{S}[30m]))"
                              " / scalar(sum(increase(fulger_expert_rows_total{S}[30m])))")], unit="percentunit", width=12),
        graph("Rows per second", "All layers together.",
              [("{{expert}}", "sum by (expert) (rate(fulger_expert_rows_total{S}[W]))")], width=12),
    ]),
]

VISION = [
    ("Pictures", [
        graph("Pictures per second", "In requests; of those known from before; encoded.",
              [("in requests", "sum(rate(fulger_pictures_total{S}[W]))"),
               ("known", "sum(rate(fulger_pictures_known_total{S}[W]))"),
               ("encoded", "sum(rate(fulger_pictures_encoded_total{S}[W]))")]),
        graph("Known from before", "Share of pictures whose features were kept.",
              [(SERVER, "rate(fulger_pictures_known_total{S}[W]) / rate(fulger_pictures_total{S}[W])")],
              unit="percentunit", max=1),
        graph("At the vision stage", "Pictures sent there and not back yet.", [(SERVER, "fulger_pictures_encoding{S}")]),
        graph("Time to encode one", "Mean, by rank.",
              [(RANK, "rate(fulger_rank_encode_seconds_total{S}[W]) / (rate(fulger_rank_pictures_total{S}[W]) > 0)")],
              unit="s"),
        graph("Tiles per pass", "Pictures that wait together share a pass of the vision tower.",
              [(RANK, "rate(fulger_rank_tiles_total{S}[W]) / (rate(fulger_rank_vision_passes_total{S}[W]) > 0)")]),
        graph("Encoding", "Share of each rank's time.", [(RANK, "rate(fulger_rank_encode_seconds_total{S}[W])")],
              unit="percentunit"),
        graph("Features kept", "Whose pictures need no encoding when they come again.",
              [("pictures", "sum(fulger_pictures_kept{S})")]),
        graph("Feature cache", "Bytes of features, kept or coming.", [(SERVER, "fulger_feature_cache_bytes{S}")],
              unit="bytes"),
    ]),
]

CLUSTER = [
    ("Now", [
        stat("Servers", "That answer Prometheus.", "sum(up{S,job=~\"fulger.*\"})"),
        stat("Replicas ready", "Of all.", "sum(fulger_replica_ready{S})"),
        stat("Ranks connected", "Of all.", "sum(fulger_rank_up{S})"),
        stat("Ranks missing", "Planned, and not connected.", "sum(1 - fulger_rank_up{S})", thresholds=[(1, "red")]),
        stat("Age of the last step", "The oldest; an idle server runs one every 20 s.",
             "max(fulger_last_step_age_seconds{S})", unit="s", thresholds=[(50, "red")]),
        stat("Certificate ends in", "The first to end; servers with TLS only.",
             "min(fulger_tls_certificate_expiry_timestamp_seconds{S} - time())", unit="s"),
        table("Alerts", "Those that fire.", 'ALERTS{S,alertstate="firing",alertname=~"Fulger.*"}', width=24),
    ]),
    ("Coming up, going down", [
        graph("Loaded", "Share of each rank's weights.", [(RANK, "fulger_rank_load_ratio{S}")], unit="percentunit", max=1),
        graph("Load rate", "Of each rank while it loads, and of the last load that ended: bytes read for the rank, by its time.",
              [("now " + RANK, "fulger_rank_load_bytes_per_second{S}"),
               ("ended " + RANK, "fulger_rank_load_bytes{S} / (fulger_rank_load_seconds{S} > 0)")], unit="Bps"),
        graph("Load time", "Of the last load that ended.", [(RANK, "fulger_rank_load_seconds{S}")], unit="s"),
        graph("Replicas ready", "By replica.", [(REPLICA, "fulger_replica_ready{S}")], max=1),
        graph("Replicas that ended", "Since the server's start.",
              [("ended " + SERVER, "fulger_replica_restarts_total{S}"),
               ("before serving " + REPLICA, "fulger_replica_start_failures_total{S}")]),
        graph("Last step", "Its age.", [(SERVER, "fulger_last_step_age_seconds{S}")], unit="s"),
    ]),
    ("What runs where", [
        table("Ranks", "Hosts and devices.", "fulger_rank_info{S}"),
        table("Servers", "Versions.", "fulger_build_info{S}"),
        table("Caches", "What each server's caches hold.", "fulger_cache_config_info{S}", width=24),
    ]),
]

DASHBOARDS = {
    "serving": ("serving", SERVING),
    "ranks": ("ranks", RANKS),
    "experts": ("experts", EXPERTS),
    "vision": ("vision", VISION),
    "cluster": ("cluster", CLUSTER),
}

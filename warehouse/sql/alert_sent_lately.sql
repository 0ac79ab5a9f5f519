-- Messages that a channel took since a time: alerts sent as one message count once. Bound: 1. channel, 2. time.
select
    count(distinct delivered_at) as messages,
    min(delivered_at) as first_delivered_at
from quality.alerts
where
    channel = ?
    and attempts > 0
    and delivered_at > cast(? as timestamp_ntz)

-- Bound: 1. run, 2. flow, 3. source, 4. landing folder, 5. engine, 6. start.
merge into ops.runs as target
using (
    select
        cast(? as varchar) as run_id,
        cast(? as varchar) as flow_name,
        cast(? as varchar) as source_system,
        cast(? as varchar) as landing_url,
        cast(? as varchar) as engine,
        cast(? as timestamp_ntz) as started_at
) as begun
    on target.run_id = begun.run_id
when matched then
    update set
        state = 'running',
        finished_at = null
when not matched then insert (
    run_id, flow_name, source_system, landing_url, engine, state, started_at
) values (
    begun.run_id, begun.flow_name, begun.source_system, begun.landing_url, begun.engine, 'running', begun.started_at
)

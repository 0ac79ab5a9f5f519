-- Order lines are held, each as it is: those named by their key, and all lines of files. One that somebody released
-- stays released. Bound: 1. JSON array of {incident_id, order_line_key} and {incident_id, source_system, source_file},
-- 2. run, 3. time.
merge into quality.held_order_lines as target
using (
    with named as (
        select
            item.value:incident_id::varchar as incident_id,
            item.value:order_line_key::varchar as order_line_key,
            item.value:source_system::varchar as source_system,
            item.value:source_file::varchar as source_file
        from table(flatten(input => parse_json(?))) as item
    ),

    chosen as (
        select
            incident_id,
            order_line_key
        from named
        where order_line_key is not null
        union
        select
            named.incident_id,
            facts.order_line_key
        from named
        inner join marts.fact_orders as facts
            on
                named.source_system = facts.source_system
                and named.source_file = facts.source_file
    )

    select
        chosen.incident_id,
        facts.order_line_key,
        facts.quantity,
        facts.unit_price,
        facts.currency,
        facts.source_system,
        facts.order_id,
        facts.source_file
    from marts.fact_orders as facts
    inner join chosen on facts.order_line_key = chosen.order_line_key
) as found
    on
        target.order_line_key = found.order_line_key
        and target.incident_id = found.incident_id
        and target.quantity = found.quantity
        and target.unit_price = found.unit_price
        and target.currency = found.currency
when not matched then
    insert (
        order_line_key, incident_id, quantity, unit_price, currency, source_system, order_id, source_file, run_id,
        held_at
    )
    values (
        found.order_line_key, found.incident_id, found.quantity, found.unit_price, found.currency, found.source_system,
        found.order_id, found.source_file, ?, cast(? as timestamp_ntz)
    )

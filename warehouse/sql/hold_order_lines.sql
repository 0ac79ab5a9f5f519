-- Order lines of findings are held, each as it is. One that somebody released stays released.
-- Bound: 1. JSON array of {incident_id, order_line_key}, 2. run, 3. time.
merge into quality.held_order_lines as target
using (
    with named as (
        select
            item.value:incident_id::varchar as incident_id,
            item.value:order_line_key::varchar as order_line_key
        from table(flatten(input => parse_json(?))) as item
    )

    select distinct
        named.incident_id,
        facts.order_line_key,
        facts.quantity,
        facts.unit_price,
        facts.currency,
        facts.source_system,
        facts.order_id,
        facts.source_file
    from marts.fact_orders as facts
    inner join named on facts.order_line_key = named.order_line_key
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

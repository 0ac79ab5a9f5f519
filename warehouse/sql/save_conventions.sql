-- Bound: 1. source, 2. timezone, 3. currency, 4. cancellation prefix, 5. adjustment prefix, 6. non-product pattern,
-- 7. float-formatted ids, 8. hash of the mapping file, 9. whole orders, 10. source of exchange rates.
merge into ops.source_conventions as target
using (
    select
        cast(? as varchar) as source_system,
        cast(? as varchar) as timezone,
        cast(? as varchar) as default_currency,
        cast(? as varchar) as cancellation_prefix,
        cast(? as varchar) as adjustment_prefix,
        cast(? as varchar) as non_product_pattern,
        cast(? as boolean) as float_formatted_ids,
        cast(? as varchar) as mapping_hash,
        cast(? as boolean) as whole_orders,
        cast(? as varchar) as exchange_rates_from
) as mapping
    on target.source_system = mapping.source_system
when matched then
    update set
        timezone = mapping.timezone,
        default_currency = mapping.default_currency,
        cancellation_prefix = mapping.cancellation_prefix,
        adjustment_prefix = mapping.adjustment_prefix,
        non_product_pattern = mapping.non_product_pattern,
        float_formatted_ids = mapping.float_formatted_ids,
        mapping_hash = mapping.mapping_hash,
        whole_orders = mapping.whole_orders,
        exchange_rates_from = mapping.exchange_rates_from
when not matched then insert (
    source_system, timezone, default_currency, cancellation_prefix, adjustment_prefix, non_product_pattern,
    float_formatted_ids, mapping_hash, whole_orders, exchange_rates_from
) values (
    mapping.source_system, mapping.timezone, mapping.default_currency, mapping.cancellation_prefix,
    mapping.adjustment_prefix, mapping.non_product_pattern, mapping.float_formatted_ids, mapping.mapping_hash,
    mapping.whole_orders, mapping.exchange_rates_from
)

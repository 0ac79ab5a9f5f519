-- What came back, and whether the sale it undoes is known. Grain: one row per way a return was found. Amounts are
-- positive, in the reporting currency, all days. Bound: 1. source.
select
    case
        when returned_amount <> 0 then 'in place'
        else coalesce(return_match, 'none')
    end as found_by,
    count(*) as order_lines,
    sum(abs(quantity)) as units,
    sum(iff(returned_amount <> 0, reporting_returned_amount, -reporting_net_amount)) as returned_amount,
    max(reporting_currency) as reporting_currency,
    count_if(exchange_rate is null) as lines_without_exchange_rate
from marts.fact_orders
where
    source_system = ?
    and is_merchandise
    and not coalesce(is_held, false)
    and (is_returned or returned_amount <> 0)
group by
    case
        when returned_amount <> 0 then 'in place'
        else coalesce(return_match, 'none')
    end
order by decode(found_by, 'in place', 0, 'stated', 1, 'matched', 2, 'awaited', 3, 4)

-- RAW: business columns are text, so that a load never fails on a type. Grain of every table: one row per record of a
-- landed file. The lineage columns say where each row came from.

create table if not exists raw.order_lines (
    order_id varchar comment 'Order or invoice number, as written by the source',
    line_number varchar comment 'Line within the order, where the source numbers its lines',
    order_status varchar comment 'Status in the source''s own words',
    ordered_at varchar comment 'When the order was placed, in the source''s timezone unless it carries an offset',
    customer_id varchar comment 'Customer number; empty for a guest',
    product_id varchar comment 'Stock code',
    product_description varchar comment 'Product text on the line',
    quantity varchar comment 'Units; negative for returns',
    unit_price varchar comment 'Price of one unit in the line''s currency',
    discount_amount varchar comment 'Discount on the whole line in the line''s currency',
    order_discount_amount varchar comment 'Discount on the whole order in the line''s currency, the same on each of its lines',
    currency varchar comment 'ISO 4217 code',
    country varchar comment 'Country of delivery, as written by the source',
    sales_channel varchar comment 'Where the order was placed',
    payment_method varchar comment 'How it was paid',
    promotion_code varchar comment 'Promotion the line took part in',
    returned_order_id varchar comment 'For a return: the order that it undoes',
    returned_line_number varchar comment 'For a return: the line that it undoes',
    updated_at varchar comment 'When the source last changed the line',
    _source_system varchar not null comment 'Name of the source mapping',
    _source_file varchar not null comment 'Path of the file, relative to the landing folder',
    _source_hash varchar not null comment 'SHA-256 of the file''s bytes',
    _source_row number(38, 0) not null comment '1-based ordinal of the record in its file, refused records counted',
    _batch_id varchar not null comment 'Run that landed the row',
    _ingested_at timestamp_ntz not null comment 'Start of that run, UTC'
)
comment = 'Order lines as landed';

-- Warehouses made before orders had discounts of their own.
alter table raw.order_lines add column if not exists order_discount_amount varchar
comment 'Discount on the whole order in the line''s currency, the same on each of its lines';

create table if not exists raw.customers (
    customer_id varchar comment 'Customer number',
    email varchar comment 'E-mail address',
    full_name varchar comment 'Name',
    address varchar comment 'Street and house number',
    city varchar comment 'City',
    postal_code varchar comment 'Postal code',
    country varchar comment 'Country, as written by the source',
    created_at varchar comment 'When the customer signed up',
    marketing_consent varchar comment 'Whether the customer may be written to',
    effective_at varchar comment 'From when this version of the customer holds',
    _source_system varchar not null comment 'Name of the source mapping',
    _source_file varchar not null comment 'Path of the file, relative to the landing folder',
    _source_hash varchar not null comment 'SHA-256 of the file''s bytes',
    _source_row number(38, 0) not null comment '1-based ordinal of the record in its file, refused records counted',
    _batch_id varchar not null comment 'Run that landed the row',
    _ingested_at timestamp_ntz not null comment 'Start of that run, UTC'
)
comment = 'Customer change feed as landed';

create table if not exists raw.customer_merges (
    customer_id varchar comment 'Customer number that is given up',
    merged_into_customer_id varchar comment 'Customer number under which the person goes on; empty: none, it stands alone again',
    merged_at varchar comment 'From when on',
    _source_system varchar not null comment 'Name of the source mapping',
    _source_file varchar not null comment 'Path of the file, relative to the landing folder',
    _source_hash varchar not null comment 'SHA-256 of the file''s bytes',
    _source_row number(38, 0) not null comment '1-based ordinal of the record in its file, refused records counted',
    _batch_id varchar not null comment 'Run that landed the row',
    _ingested_at timestamp_ntz not null comment 'Start of that run, UTC'
)
comment = 'Customers that turned out to be one person, as landed';

create table if not exists raw.products (
    product_id varchar comment 'Stock code',
    product_name varchar comment 'Name',
    category varchar comment 'Category',
    subcategory varchar comment 'Subcategory',
    brand varchar comment 'Brand',
    list_price varchar comment 'List price of one unit',
    currency varchar comment 'ISO 4217 code of the list price',
    is_active varchar comment 'Whether the product is sold',
    effective_at varchar comment 'From when this version of the product holds',
    _source_system varchar not null comment 'Name of the source mapping',
    _source_file varchar not null comment 'Path of the file, relative to the landing folder',
    _source_hash varchar not null comment 'SHA-256 of the file''s bytes',
    _source_row number(38, 0) not null comment '1-based ordinal of the record in its file, refused records counted',
    _batch_id varchar not null comment 'Run that landed the row',
    _ingested_at timestamp_ntz not null comment 'Start of that run, UTC'
)
comment = 'Product change feed as landed';

create table if not exists raw.fx_rates (
    rate_date varchar comment 'Day the rate holds for',
    base_currency varchar comment 'ISO 4217 code of the currency that is priced',
    quote_currency varchar comment 'ISO 4217 code of the currency it is priced in',
    rate varchar comment 'Units of the quote currency for one unit of the base currency',
    _source_system varchar not null comment 'Name of the source mapping',
    _source_file varchar not null comment 'Path of the file, relative to the landing folder',
    _source_hash varchar not null comment 'SHA-256 of the file''s bytes',
    _source_row number(38, 0) not null comment '1-based ordinal of the record in its file, refused records counted',
    _batch_id varchar not null comment 'Run that landed the row',
    _ingested_at timestamp_ntz not null comment 'Start of that run, UTC'
)
comment = 'Daily exchange rates as landed';

-- Returns, on a node, one business that belongs to another partition: the order or the number of partitions has changed.
--
--   partitions, partition  their number, and that of this node
SELECT b.business_id FROM booking.businesses b
WHERE booking.partition(b.business_id) & %(partitions)s::integer - 1 <> %(partition)s
ORDER BY b.business_id LIMIT 1

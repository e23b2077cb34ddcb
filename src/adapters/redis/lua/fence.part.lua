-- Only the owner of the present epoch may go on. ARGV[1] is the caller's epoch.
do
  local epoch = call("GET", prefix .. "e") or "0"
  if epoch ~= ARGV[1] then
    return redis.error_reply("FENCED " .. epoch)
  end
end

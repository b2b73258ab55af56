# Ruby's dalli does every operation it has over the meta protocol; each step that was right is named on stdout.
# Arguments: the server's host:port.
require 'dalli'

$stdout.sync = true
client = Dalli::Client.new(ARGV[0], protocol: :meta, serializer: Marshal, socket_timeout: 5, compress: true)

def same(got, wanted)
  raise "got #{got.inspect[0, 200]} for #{wanted.inspect[0, 200]}" unless got == wanted
end

def refused(got)
  raise "got #{got.inspect[0, 200]}" if got && got != 0
end

client.set('key', 'value', 100)
same client.get('key'), 'value'
same client.get('absent'), nil
client.set('object', { a: [1, 2] })
same client.get('object'), { a: [1, 2] }
puts 'set'

refused client.add('key', 'other')
raise 'add' unless client.add('new', 1)
raise 'replace' unless client.replace('key', 'other')
refused client.replace('absent', 'other')
client.set('raw', 'other', 100, raw: true)
client.append('raw', '>')
client.prepend('raw', '<')
same client.get('raw'), '<other>'
puts 'add'

same client.incr('n', 1, 100, 9), 9
same client.incr('n', 1), 10
same client.decr('n', 4), 6
same client.incr('nothing', 1), nil
puts 'count'

100.times { |number| client.set("key#{number}", number) }
found = client.get_multi(*(0..100).map { |number| "key#{number}" })
same found.size, 100
same found['key42'], 42
client.public_send(client.respond_to?(:quiet) ? :quiet : :multi) do
  100.times { |number| client.set("quiet#{number}", number) }
end
same client.get('quiet99'), 99
puts 'multi'

raise 'cas' unless client.cas('key') { |value| "#{value}!" }
same client.get('key'), 'other!'
value, unique = client.get_cas('key')
same value, 'other!'
raise 'set_cas' unless client.set_cas('key', 'two', unique)
refused client.set_cas('key', 'three', unique)
raise 'touch' unless client.touch('key', 200)
same client.gat('key', 200), 'two'
puts 'cas'

client.set('ключ ☕', 'value')
same client.get('ключ ☕'), 'value'
same client.get_multi('ключ ☕').values, ['value']
puts 'key'

# dalli takes a time in the past for a long time to live.
client.set('gone', 'x', 1)
50.times { client.get('gone') && sleep(0.1) }
same client.get('gone'), nil
raise 'delete' unless client.delete('key')
same client.get('key'), nil
puts 'expire'

[(1..20_000).to_a.join(','), Random.new(7).bytes(100_000)].each do |big|
  client.set('big', big)
  same client.get('big'), big
end
puts 'big'

version = client.version.values.first
raise version.inspect unless version.match?(/\A\d+\.\d+\.\d+\z/)
raise 'stats' unless client.stats.values.first['curr_items'].to_i >= 100
client.flush
same client.get('n'), nil
puts 'flush'
client.close

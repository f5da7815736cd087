# Move a file and wait for it: ruby move.rb SOURCE DESTINATION PATH [SIZE]
#
# DATAMOVER_URL is https://HOST:10700/data_mover, DATAMOVER_LOGIN is NAME:PASSWORD,
# DATAMOVER_CA a file with the certificate authority to trust (default: the system's).
require 'xmlrpc/client'

WAIT = 60 # seconds: the most that jobs.wait takes
ENDED = %w[COMPLETED PARTIAL FAILED CANCELLED]

source, destination, path, size = ARGV
mover = XMLRPC::Client.new2(ENV['DATAMOVER_URL'], nil, WAIT + 30) # longer than jobs.wait
mover.user, mover.password = ENV['DATAMOVER_LOGIN'].split(':', 2)
mover.http.ca_file = ENV['DATAMOVER_CA'] if ENV['DATAMOVER_CA']

begin
  request = { source: source, destination: destination, path: path, label: "Ruby: #{path}" }
  request[:size] = size.to_f if size
  id = mover.call('jobs.submit', request)['id']
  loop do
    job = mover.call('jobs.wait', id, WAIT)
    puts "job #{id}, #{job['label']}: #{job['status']}, #{job['bytes_done'].to_i} of #{job['bytes_total'].to_i} bytes"
    next unless ENDED.include?(job['status'])
    abort job['error']['message'] if job['status'] != 'COMPLETED'
    break
  end
  mover.call('jobs.files', id).each do |file|
    puts "#{file['path']}: #{file['size'].to_i} bytes, #{file['digest']}"
  end
rescue XMLRPC::FaultException => fault
  abort fault.faultString
rescue StandardError => error
  abort "no answer: #{error.message}"
end
